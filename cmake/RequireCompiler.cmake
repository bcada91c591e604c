# Enables C++, or stops with a message that says what to install: CMake's own names neither.
set(DEPTHWISE_INSTALL_HINT
    "  Debian, Ubuntu:  apt install g++ make python3-dev python3-venv\n"
    "  Fedora:          dnf install gcc-c++ make python3-devel\n"
    "  macOS:           xcode-select --install\n"
    "  Windows:         Visual Studio with \"C++ Clang tools for Windows\" (clang-cl)\n")
string(CONCAT DEPTHWISE_INSTALL_HINT ${DEPTHWISE_INSTALL_HINT})

include(CheckLanguage)
check_language(CXX)
if(NOT CMAKE_CXX_COMPILER)
  # Not kept in the cache, so that the next run finds what was installed in between.
  unset(CMAKE_CXX_COMPILER CACHE)
  message(FATAL_ERROR "depthwise needs a C++20 compiler, and none that works was found. Install "
                      "one, or name one in the environment variable CXX:\n"
                      "${DEPTHWISE_INSTALL_HINT}")
endif()
enable_language(CXX)

# The first versions that know -march=x86-64-v4 and the parts of C++20 that are used.
set(minimum_GNU 11)
set(minimum_Clang 14)
set(minimum_AppleClang 14)
set(minimum "${minimum_${CMAKE_CXX_COMPILER_ID}}")
if(NOT minimum OR CMAKE_CXX_COMPILER_VERSION VERSION_LESS minimum)
  message(FATAL_ERROR "depthwise needs GCC 11 or Clang 14, or newer, whose vector extensions it is "
                      "written in; found ${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION} "
                      "(${CMAKE_CXX_COMPILER}). Install one, or name one in the environment "
                      "variable CXX:\n${DEPTHWISE_INSTALL_HINT}")
endif()
