"""The node half's rules as tables, without a machine."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from csi_driver.addresses import ImageAddress
from csi_driver.errors import Conflict, InUse, InvalidRequest
from csi_driver.host.api import Attachment, Content, Device, Finding, Mount
from csi_driver.host.mounts import parse_table
from csi_driver.model import AccessMode, Capability, ImageTraits
from csi_driver.mutable import DeviceLimits
from csi_driver.operations import contents, mounters
from csi_driver.operations.contents import Treatment, Wish
from csi_driver.operations.publishing import AtTarget, PublishStep, decide_publish
from csi_driver.operations.stage_record import Publication, StageRecord
from csi_driver.operations.staging import StageStep, decide_stage

EXT4 = Capability(AccessMode.SINGLE_NODE_WRITER, is_block=False, fs_type="ext4")
XFS = Capability(AccessMode.SINGLE_NODE_WRITER, is_block=False, fs_type="xfs")
BLOCK = Capability(AccessMode.SINGLE_NODE_WRITER, is_block=True)
RECORD = StageRecord(Attachment("vol", "rbd", "", "image", read_only=False), "fuse", EXT4)
GO_RECORD = StageRecord(Attachment("vol", "rbd", "", "image", read_only=False), "krbd", None)
MOUNT = Mount("7:1", "/", Path("/staging/vol"), "ext4", is_read_only=False)
DEVICE = Device(Path("/dev/loop1"), "7:1", 1 << 30)


@pytest.mark.parametrize(
    ("wanted", "record", "mount", "device", "expected"),
    [
        (EXT4, None, None, None, StageStep.BUILD),
        (EXT4, RECORD, None, None, StageStep.BUILD),
        (XFS, RECORD, None, None, StageStep.REBUILD),
        (EXT4, RECORD, MOUNT, DEVICE, StageStep.NOTHING),
        (EXT4, RECORD, MOUNT, None, StageStep.REBUILD),
        (EXT4, GO_RECORD, MOUNT, DEVICE, StageStep.NOTHING),
        (XFS, RECORD, MOUNT, DEVICE, Conflict),
        (BLOCK, RECORD, MOUNT, DEVICE, Conflict),
        (XFS, RECORD, MOUNT, None, Conflict),
        (EXT4, None, MOUNT, None, InUse),
    ],
)
def test_a_stage_goes_on_from_what_is_there(
    wanted: Capability,
    record: StageRecord | None,
    mount: Mount | None,
    device: Device | None,
    expected: StageStep | type[Exception],
) -> None:
    """Record, mount and proven device decide; never one of them alone."""
    if isinstance(expected, StageStep):
        assert decide_stage(wanted, record, mount, device) is expected
    else:
        with pytest.raises(expected):
            decide_stage(wanted, record, mount, device)


def publication(mode: AccessMode, *, target: str = "/pod-1", read_only: bool = False) -> Publication:
    return Publication(Path(target), Capability(mode, is_block=False, fs_type="ext4"), read_only)


@pytest.mark.parametrize("mode", AccessMode)
@pytest.mark.parametrize("other", AccessMode)
def test_a_second_target_needs_a_mode_that_allows_it_on_both_sides(mode: AccessMode, other: AccessMode) -> None:
    """CSI, NodePublishVolume: the single-node modes but SINGLE_NODE_MULTI_WRITER are for one target."""
    several = {
        AccessMode.SINGLE_NODE_MULTI_WRITER,
        AccessMode.MULTI_NODE_READER_ONLY,
        AccessMode.MULTI_NODE_SINGLE_WRITER,
        AccessMode.MULTI_NODE_MULTI_WRITER,
    }
    wanted, there = publication(mode, target="/pod-2"), publication(other)
    if mode in several and other in several:
        assert decide_publish(wanted, None, [there]) is PublishStep.BIND
    else:
        with pytest.raises(InUse, match="/pod-1"):
            decide_publish(wanted, None, [there])


WRITABLE = Mount("7:1", "/", Path("/pod-1"), "ext4", is_read_only=False)
READ_ONLY = Mount("7:1", "/", Path("/pod-1"), "ext4", is_read_only=True)
ONE = publication(AccessMode.SINGLE_NODE_WRITER)
ONE_READ_ONLY = publication(AccessMode.SINGLE_NODE_WRITER, read_only=True)
OTHER_MODE = publication(AccessMode.SINGLE_NODE_MULTI_WRITER)


@pytest.mark.parametrize(
    ("wanted", "here", "expected"),
    [
        (ONE, None, PublishStep.BIND),
        (ONE, AtTarget(WRITABLE, True, ONE), PublishStep.NOTHING),
        (ONE, AtTarget(WRITABLE, True, None), PublishStep.NOTHING),  # another driver's
        (ONE_READ_ONLY, AtTarget(READ_ONLY, True, ONE_READ_ONLY), PublishStep.NOTHING),
        (ONE_READ_ONLY, AtTarget(WRITABLE, True, ONE_READ_ONLY), PublishStep.BIND),  # stopped before the flag
        (ONE, AtTarget(READ_ONLY, True, ONE), PublishStep.NOTHING),  # the stage has the mount flag ro
        (ONE, AtTarget(READ_ONLY, True, ONE_READ_ONLY), Conflict),
        (ONE_READ_ONLY, AtTarget(WRITABLE, True, ONE), Conflict),
        (ONE_READ_ONLY, AtTarget(WRITABLE, True, None), Conflict),
        (OTHER_MODE, AtTarget(WRITABLE, True, ONE), Conflict),
        (ONE, AtTarget(WRITABLE, False, None), Conflict),
    ],
)
def test_the_same_target_takes_only_the_same_arguments(
    wanted: Publication, here: AtTarget | None, expected: PublishStep | type[Exception]
) -> None:
    """CSI, NodePublishVolume, table of arguments: same target and arguments OK, others ALREADY_EXISTS."""
    if isinstance(expected, PublishStep):
        assert decide_publish(wanted, here, []) is expected
    else:
        with pytest.raises(expected):
            decide_publish(wanted, here, [])


@dataclass(frozen=True)
class ContentRow:
    finding: Finding
    fs_type: str = ""
    read_only: bool = False
    formatting: bool = False
    expected: tuple[Treatment, str] | None = None


BLANK, UNFINISHED, UNKNOWN = Finding(Content.BLANK), Finding(Content.UNFINISHED, "xfs"), Finding(Content.UNKNOWN)
CONTENT_ROWS = [
    ContentRow(BLANK, expected=(Treatment.FORMAT, "ext4")),
    ContentRow(BLANK, "xfs", expected=(Treatment.FORMAT, "xfs")),
    ContentRow(BLANK, formatting=True, expected=(Treatment.FORMAT, "ext4")),
    ContentRow(BLANK, read_only=True),
    ContentRow(UNFINISHED, "ext4", expected=(Treatment.FORMAT_OVER, "ext4")),
    ContentRow(UNFINISHED, "xfs", read_only=True),
    ContentRow(UNKNOWN),
    ContentRow(UNKNOWN, formatting=True, expected=(Treatment.FORMAT_OVER, "ext4")),
    ContentRow(UNKNOWN, formatting=True, read_only=True),
    ContentRow(Finding(Content.FILE_SYSTEM, "ext4"), expected=(Treatment.MOUNT, "ext4")),
    ContentRow(Finding(Content.FILE_SYSTEM, "xfs"), expected=(Treatment.MOUNT, "xfs")),
    ContentRow(Finding(Content.FILE_SYSTEM, "xfs"), "xfs", read_only=True, expected=(Treatment.MOUNT, "xfs")),
    ContentRow(Finding(Content.FILE_SYSTEM, "xfs"), "ext4"),
    ContentRow(Finding(Content.FILE_SYSTEM, "xfs"), "ext4", formatting=True),
    ContentRow(Finding(Content.FILE_SYSTEM, "btrfs")),
    ContentRow(Finding(Content.FOREIGN, "gpt partition table"), formatting=True),
    ContentRow(Finding(Content.FOREIGN, "crypto_LUKS")),
]


@pytest.mark.parametrize("row", CONTENT_ROWS, ids=str)
def test_only_what_is_provably_empty_is_formatted(row: ContentRow) -> None:
    """Rows without an expectation are refused."""
    wish = Wish(row.fs_type, row.read_only, row.formatting)
    if row.expected:
        assert contents.decide(row.finding, wish) == row.expected
    else:
        with pytest.raises(InUse):
            contents.decide(row.finding, wish)


@dataclass(frozen=True)
class Attaching:
    """An attacher of which only the choice is asked."""

    name: str
    reason: str | None = None

    @property
    def recovery(self) -> None:
        return None

    @property
    def holds_limits(self) -> bool:
        return self.name != "krbd"

    def unavailable_reason(self) -> str | None:
        return self.reason

    def refusal(self, traits: ImageTraits) -> str | None:
        return "it knows no journaling" if "journaling" in traits.features and self.name == "krbd" else None

    def attach(self, attachment: Attachment, address: ImageAddress, options: Sequence[str]) -> Device:
        raise AssertionError

    def find(self, attachment: Attachment) -> Device | None:
        raise AssertionError

    def why_dead(self, attachment: Attachment) -> str | None:
        raise AssertionError

    def refresh_size(self, attachment: Attachment, at_least: int) -> Device:
        raise AssertionError

    def detach(self, attachment: Attachment, options: Sequence[str]) -> None:
        raise AssertionError


FUSE, NBD, KRBD = Attaching("fuse"), Attaching("nbd"), Attaching("krbd")
NO_KRBD = Attaching("krbd", "the kernel has no rbd module")


@pytest.mark.parametrize(
    ("attachers", "wanted", "others", "expected"),
    [
        ((FUSE,), None, False, "fuse"),
        ((FUSE, NBD, KRBD), None, False, "krbd"),
        ((FUSE, NBD, NO_KRBD), None, False, "nbd"),
        ((FUSE, NBD, KRBD), "fuse", False, "fuse"),
        ((FUSE,), "krbd", True, "fuse"),
        ((FUSE, NO_KRBD), "krbd", True, "fuse"),
    ],
)
def test_the_mounter_is_the_one_asked_for_or_the_first_that_works(
    attachers: tuple[Attaching, ...], wanted: str | None, others: bool, expected: str
) -> None:
    assert mounters.choose(attachers, wanted, try_others=others).attacher.name == expected


def test_limits_are_left_to_librbd_unless_the_kernel_is_asked_for() -> None:
    limited = ImageTraits(("layering",), DeviceLimits(read_iops=5))
    assert mounters.choose((KRBD, FUSE), None, try_others=False, traits=limited).attacher is FUSE
    assert mounters.choose((KRBD, FUSE), "krbd", try_others=False, traits=limited).attacher is KRBD


def test_the_automatic_choice_goes_by_the_image_too_and_says_why() -> None:
    choice = mounters.choose((KRBD, FUSE), None, try_others=False, traits=ImageTraits(("layering", "journaling")))
    assert choice.attacher.name == "fuse"
    assert choice.passed_over == ("krbd: it knows no journaling", "nbd: this driver does not have it")


@pytest.mark.parametrize(
    ("attachers", "wanted", "said"),
    [
        ((FUSE,), "krbd", "krbd: this driver does not have it"),
        ((FUSE, NO_KRBD), "krbd", "krbd: the kernel has no rbd module; set tryOtherMounters"),
        ((Attaching("fuse", "/dev/fuse is missing"),), None, "fuse: /dev/fuse is missing"),
    ],
)
def test_a_mounter_that_this_node_cannot_do_is_refused_with_its_reason(
    attachers: tuple[Attaching, ...], wanted: str | None, said: str
) -> None:
    with pytest.raises(InUse, match=said):
        mounters.choose(attachers, wanted, try_others=False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("noshare,lock_on_read", {"krbd": ("noshare", "lock_on_read")}),
        ("krbd:a,b=1;nbd:c;fuse:rbd_cache=false", {"krbd": ("a", "b=1"), "nbd": ("c",), "fuse": ("rbd_cache=false",)}),
        ("rbd:a;rbd-nbd:b", {"krbd": ("a",), "nbd": ("b",)}),
        ("crush_location=host:a|rack:b", {"krbd": ("crush_location=host:a|rack:b",)}),
    ],
)
def test_map_options_are_given_to_their_mounter(text: str, expected: dict[str, tuple[str, ...]]) -> None:
    assert mounters.parse_options("mapOptions", text) == expected


def test_map_options_for_a_mounter_that_does_not_exist_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="scsi"):
        mounters.parse_options("mapOptions", "scsi:a")


def test_the_mount_table_is_read_with_its_escapes_and_optional_fields() -> None:
    """proc(5): four characters come as octal; zero or more tags stand before the dash."""
    text = (
        "36 35 7:3 / /a\\040b/c ro,noatime master:1 shared:2 - ext4 /dev/loop3 rw\n"
        "37 35 0:6 /loop4 /x\\134y rw - devtmpfs dev rw\n"
        "38 35 7:5 / /z rw - xfs /dev/loop5 ro,nouuid\n"
    )
    assert parse_table(text) == [
        Mount("7:3", "/", Path("/a b/c"), "ext4", is_read_only=True),
        Mount("0:6", "/loop4", Path("/x\\y"), "devtmpfs", is_read_only=False),
        Mount("7:5", "/", Path("/z"), "xfs", is_read_only=True),
    ]
