"""The wire contract of a .proto file as sorted lines, and their digest.

One line for each element: its path by names, its own properties, its options. Two files whose lines are equal encode
every message alike and offer the same RPCs. Comments, the order of declarations, `go_package` and the file's name leave
no trace in the lines.
"""

import hashlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from difflib import unified_diff
from pathlib import Path

from google.protobuf import text_format
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClassesForFiles

RELEASE = "v1.13.0"
DIGEST = "f497445b230e3bd1e34f8b11dce51b677c739d72ca53d34dfac2098a0672c3ee"

# Parts of a descriptor that have names: each gets a line of its own, so their order does not count.
NAMED_PARTS = (
    "message_type",
    "nested_type",
    "field",
    "oneof_decl",
    "enum_type",
    "value",
    "extension",
    "service",
    "method",
)
UNORDERED_LISTS = ("dependency", "reserved_name", "reserved_range")


def elements(proto: Path) -> list[str]:
    """The sorted lines of a file. Raises CalledProcessError when it does not compile."""
    file = _described(proto)
    file.ClearField("name")
    file.options.ClearField("go_package")  # type: ignore[attr-defined]
    return sorted(_lines(file, path="", parent=file))


def digest(lines: list[str]) -> str:
    return hashlib.sha256(str(lines).encode()).hexdigest()


def difference(ours: list[str], official: list[str]) -> list[str]:
    """Empty when both are one contract; else a diff without context."""
    return list(unified_diff(official, ours, "official", "ours", n=0, lineterm=""))


def _described(proto: Path) -> Message:
    """The file's descriptor with its custom options decoded: a class made from the set itself knows them by name."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "set"
        includes = [f"-I{proto.parent}", "--include_imports"]
        command = [sys.executable, "-m", "grpc_tools.protoc", *includes, f"--descriptor_set_out={out}", proto.name]
        subprocess.run(command, check=True)
        files = FileDescriptorSet.FromString(out.read_bytes()).file
    pool = DescriptorPool()
    for file in files:
        pool.Add(file)
    classes = GetMessageClassesForFiles([file.name for file in files], pool)
    described = classes["google.protobuf.FileDescriptorProto"]()
    described.ParseFromString(files[-1].SerializeToString())
    return described


def _lines(element: Message, *, path: str, parent: Message) -> Iterator[str]:
    own = type(element)()
    own.CopyFrom(element)
    parts = element.DESCRIPTOR.fields_by_name
    if "oneof_index" in parts and element.HasField("oneof_index"):
        oneofs = parent.oneof_decl  # type: ignore[attr-defined]
        path += f" oneof:{oneofs[element.oneof_index].name}"  # type: ignore[attr-defined]
        own.ClearField("oneof_index")  # an index depends on the order; the name does not
    for part in NAMED_PARTS:
        if part in parts:
            own.ClearField(part)
            for child in getattr(element, part):
                yield from _lines(child, path=f"{path}/{part}:{child.name}", parent=element)
    for part in UNORDERED_LISTS:
        if part in parts:
            getattr(own, part).sort(key=str)
    options = text_format.MessageToString(own.options, as_one_line=True)  # type: ignore[attr-defined]
    own.ClearField("options")  # printed apart: `{}` after an rpc sets an empty one, which is no difference
    yield f"{path} {{{text_format.MessageToString(own, as_one_line=True)}}} [{options}]"
