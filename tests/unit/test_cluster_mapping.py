"""Handles of a cluster that another one has taken the place of."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from csi_driver.cluster_mapping import ClusterMapping
from csi_driver.config import ConfigError
from csi_driver.ids import Handle
from csi_driver.mapping_file import read_cluster_mapping
from csi_driver.pb import csi_pb2 as pb
from csi_driver.rpc.handle_mapping import translated

_UUID = "50d53503-9da1-11ed-847e-bacf8f2f1297"


def mapping(path: Path, *entries: object) -> ClusterMapping:
    (path / "cluster-mapping.json").write_text(json.dumps(entries))
    return read_cluster_mapping(path / "cluster-mapping.json")


def pair(old: str, new: str, **pools: str) -> dict[str, object]:
    numbers = [{key.removeprefix("p"): value} for key, value in pools.items()]
    return {"clusterIDMapping": {old: new}, "RBDPoolIDMapping": numbers, "CephFSFscIDMapping": [{"9": "8"}]}


def test_a_handle_leads_to_the_side_that_the_clusters_file_knows(tmp_path: Path) -> None:
    both = mapping(tmp_path, pair("east", "west", p1="2", p3="4"))
    east, west = Handle("east", 3, _UUID), Handle("west", 4, _UUID)
    assert both.translate(east, {"west"}) == west
    assert both.translate(west, {"east"}) == east
    assert both.translate(west, {"west"}) == west
    for one in (east, west):
        assert both.translate(one, {"east", "west"}) == one
        assert both.translate(one, {"north"}) == one


def test_a_handle_tells_by_which_others_it_may_have_been_known(tmp_path: Path) -> None:
    """For what was made of a handle before its cluster was gone."""
    both = mapping(tmp_path, pair("east", "west", p1="2", p3="4"), pair("north", "west", p9="4"))
    east, north, west = Handle("east", 3, _UUID), Handle("north", 9, _UUID), Handle("west", 4, _UUID)
    assert both.other_names(str(west)) == (str(east), str(north))
    assert both.other_names(str(east)) == (str(west),)
    assert both.other_names(str(Handle("west", 5, _UUID))) == both.other_names("no handle") == ()


def test_a_pool_that_is_not_named_is_not_mapped(tmp_path: Path) -> None:
    unmapped = Handle("east", 7, _UUID)
    assert mapping(tmp_path, pair("east", "west", p1="2")).translate(unmapped, {"west"}) == unmapped


def test_where_both_clusters_have_one_id_the_pools_tell_from_left_to_right(tmp_path: Path) -> None:
    same = mapping(tmp_path, pair("rook-ceph", "rook-ceph", p2="5"))
    assert same.translate(Handle("rook-ceph", 2, _UUID), {"rook-ceph"}).pool_id == 5
    assert same.translate(Handle("rook-ceph", 5, _UUID), {"rook-ceph"}).pool_id == 5


def test_the_first_entry_that_has_cluster_and_pool_counts(tmp_path: Path) -> None:
    several = mapping(
        tmp_path, pair("north", "west", p1="2"), pair("east", "west", p1="3"), pair("east", "west", p4="5")
    )
    assert several.translate(Handle("east", 1, _UUID), {"west"}) == Handle("west", 3, _UUID)
    assert several.translate(Handle("east", 4, _UUID), {"west"}) == Handle("west", 5, _UUID)


@given(some.text(max_size=80))
def test_what_is_no_handle_stays_as_it_is(text: str) -> None:
    assert ClusterMapping().translate_text(text, {"east"}) == text


def test_every_handle_of_a_request_is_translated_and_nothing_else() -> None:
    create = pb.CreateVolumeRequest(name="a", parameters={"volume_id": "a"}, secrets={"userID": "a"})
    create.volume_content_source.snapshot.snapshot_id = "a"
    assert str(translated(create, str.upper)).count('"A"') == 1
    group = pb.DeleteVolumeGroupSnapshotRequest(group_snapshot_id="g", snapshot_ids=["a", "b"])
    upper = pb.DeleteVolumeGroupSnapshotRequest(group_snapshot_id="G", snapshot_ids=["A", "B"])
    assert translated(group, str.upper) == upper
    blocks = pb.GetMetadataDeltaRequest(base_snapshot_id="a", target_snapshot_id="b")
    assert translated(blocks, str.upper) == pb.GetMetadataDeltaRequest(base_snapshot_id="A", target_snapshot_id="B")
    publish = pb.ControllerPublishVolumeRequest(volume_id="a", node_id="a")
    assert translated(publish, str.upper) == pb.ControllerPublishVolumeRequest(volume_id="A", node_id="a")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "is not JSON"),
        ("{}", "is not a list"),
        ("[1]", "entry 0"),
        ('[{"clusterIDMapping": {"a": 1}}]', "clusterIDMapping"),
        ('[{"clusterIDMapping": {"a": "b"}, "RBDPoolIDMapping": [1]}]', "RBDPoolIDMapping"),
        ('[{"clusterIDMapping": {"a": "b"}, "RBDPoolIDMapping": [{"x": "1"}]}]', "'x'"),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_the_field(tmp_path: Path, content: str, told: str) -> None:
    (tmp_path / "file").write_text(content)
    with pytest.raises(ConfigError, match=told):
        read_cluster_mapping(tmp_path / "file")
    with pytest.raises(ConfigError, match="No such file"):
        read_cluster_mapping(tmp_path / "missing")
