# Finds Python's headers, nanobind and NumPy's headers, or stops with a message that says what to install.

# pip's side says where the headers should be, and then CMake takes that as found.
if(NOT DEFINED Python_INCLUDE_DIR OR EXISTS "${Python_INCLUDE_DIR}/Python.h")
  find_package(Python 3.10 COMPONENTS Interpreter Development.Module
               OPTIONAL_COMPONENTS Development.SABIModule)
endif()
if(NOT Python_Development.Module_FOUND)
  message(FATAL_ERROR "depthwise needs the headers of Python >= 3.10 (Python.h), and those of "
                      "\"${Python_EXECUTABLE}\" were not found:\n${DEPTHWISE_INSTALL_HINT}")
endif()

# pip puts nanobind on CMake's search path; a build without pip asks the interpreter.
find_package(nanobind CONFIG QUIET)
if(NOT nanobind_FOUND)
  execute_process(COMMAND "${Python_EXECUTABLE}" -m nanobind --cmake_dir
                  OUTPUT_VARIABLE nanobind_ROOT OUTPUT_STRIP_TRAILING_WHITESPACE)
  find_package(nanobind CONFIG REQUIRED)
endif()

# Of the environment that builds: its headers serve every NumPy >= 1.23 at run time.
execute_process(COMMAND "${Python_EXECUTABLE}" -c "import numpy; print(numpy.get_include())"
                OUTPUT_VARIABLE DEPTHWISE_NUMPY_INCLUDE OUTPUT_STRIP_TRAILING_WHITESPACE
                COMMAND_ERROR_IS_FATAL ANY)
