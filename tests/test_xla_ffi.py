"""native/xla_ffi.h against XLA's own header: each size, offset and value that it declares again."""

from __future__ import annotations

import importlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.jax

NATIVE = Path(__file__).parent.parent / "native"

# Our struct and XLA's, and all fields of ours, with XLA's name for those that it calls differently.
# XLA's structs may go on after them.
STRUCTS = {
    ("Extension", "Extension_Base"): "struct_size type next",
    ("ApiVersion", "Api_Version"): "struct_size extension_start major_version minor_version",
    ("Metadata", "Metadata"): "struct_size api_version traits",
    ("MetadataExtension", "Metadata_Extension"): "base=extension_base metadata",
    ("ErrorCreateArgs", "Error_Create_Args"): "struct_size extension_start message code=errc",
    ("Api", "Api"): "struct_size extension_start api_version internal_api"
    " error_create=XLA_FFI_Error_Create",
    ("Buffer", "Buffer"): "struct_size extension_start dtype data rank dims",
    ("Array", "Array"): "dtype size data",
    ("ByteSpan", "ByteSpan"): "data=ptr size=len",
    ("Buffers", "Args"): "struct_size extension_start size types buffers=args",
    ("Buffers", "Rets"): "struct_size extension_start size types buffers=rets",
    ("Attributes", "Attrs"): "struct_size extension_start size types names attributes=attrs",
    ("CallFrame", "CallFrame"): "struct_size extension_start api context=ctx stage"
    " arguments=args results=rets attributes=attrs",
}
CONSTANTS = (
    ("kMetadataExtension", "Extension_Metadata"),
    ("kInvalidArgument", "Error_Code_INVALID_ARGUMENT"),
    ("kResourceExhausted", "Error_Code_RESOURCE_EXHAUSTED"),
    ("kInternal", "Error_Code_INTERNAL"),
    ("kS64", "DataType_S64"),
    ("kF16", "DataType_F16"),
    ("kF32", "DataType_F32"),
    ("kF64", "DataType_F64"),
    ("kBF16", "DataType_BF16"),
    ("kBufferType", "ArgType_BUFFER"),
    ("kBufferType", "RetType_BUFFER"),
    ("kArrayType", "AttrType_ARRAY"),
    ("kExecuteStage", "ExecutionStage_EXECUTE"),
)


def conditions() -> Iterator[str]:
    """Yield what has to be true, in C++."""
    yield "ours::kMajorVersion == XLA_FFI_API_MAJOR"
    yield "ours::kMinorVersion <= XLA_FFI_API_MINOR"
    for our_constant, their_constant in CONSTANTS:
        yield f"ours::{our_constant} == static_cast<int>(XLA_FFI_{their_constant})"
    for (our_struct, their_struct), fields in STRUCTS.items():
        ours, theirs = f"ours::{our_struct}", f"XLA_FFI_{their_struct}"
        yield f"alignof({ours}) == alignof({theirs})"
        yield f"sizeof({ours}) <= sizeof({theirs})"
        for field in fields.split():
            our_field, _, renamed = field.partition("=")
            their_field = renamed or our_field
            yield f"offsetof({ours}, {our_field}) == offsetof({theirs}, {their_field})"
            yield f"sizeof({ours}::{our_field}) == sizeof({theirs}::{their_field})"
        # No field of ours comes after those above.
        yield f"sizeof({ours}) - offsetof({ours}, {our_field}) < sizeof({ours}::{our_field}) + 8"


def compile_with_both_headers(statements: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """Compile C++ that sees XLA's names and, as `ours`, our own; not having a compiler fails."""
    compiler = next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None)
    assert compiler is not None, "there is no C++ compiler"
    source = directory / "compare.cc"
    # XLA's header stays outside of our namespace, as its names are C's.
    source.write_text(
        "#include <xla/ffi/api/c_api.h>\n"
        "#include <xla_ffi.h>\n"
        "namespace ours = depthwise::xla;\n" + statements
    )
    xla = importlib.import_module("jax").ffi.include_dir()
    return subprocess.run(
        [compiler, "-std=c++17", "-fsyntax-only", f"-I{xla}", f"-I{NATIVE}", str(source)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_declarations_agree_with_xla(tmp_path: Path) -> None:
    statements = "".join(f'static_assert({condition}, "");\n' for condition in conditions())
    done = compile_with_both_headers(statements, tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "wrong",
    [
        "ours::kExecuteStage == static_cast<int>(XLA_FFI_ExecutionStage_PREPARE)",
        "offsetof(ours::Buffer, data) == offsetof(XLA_FFI_Buffer, rank)",
    ],
)
def test_a_difference_is_noticed(wrong: str, tmp_path: Path) -> None:
    done = compile_with_both_headers(f'static_assert({wrong}, "");\n', tmp_path)
    assert done.returncode != 0
    assert "assert" in done.stderr
