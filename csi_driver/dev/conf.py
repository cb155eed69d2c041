"""The text of a development cluster's ceph.conf: small, fast to commit, content with one machine and a nearly full disk."""

from pathlib import Path

from csi_driver.dev.address import monitors
from csi_driver.dev.layout import GIB, Record

_CONF = """\
[global]
fsid = {record.fsid}
mon host = {monitors}
public addr = {record.address}
cluster addr = {record.address}
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
auth allow insecure global id reclaim = false
run dir = {directory}/run

# Every daemon is on this machine: copies go to OSDs, not to hosts.
osd crush chooseleaf type = 0
osd pool default size = {copies}
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pg autoscale mode = off
mon allow pool size one = true
mon allow pool delete = true
mon warn on pool no redundancy = false
mgr initial modules = iostat

# A snapshot waits for one monitor commit; the usual interval of 1 s would hide the driver's own cost.
paxos propose interval = 0.05

# Only a disk that is really full is worth a word.
mon data avail warn = 1
mon data avail crit = 1

[client]
keyring = {directory}/keyring
log file =

[mon]
mon data = {directory}/mon
{daemon}
[mgr]
mgr data = {directory}/mgr
keyring = {directory}/daemons.keyring
{daemon}
[osd]
osd data = {directory}/osd.$id
keyring = {directory}/daemons.keyring
osd objectstore = bluestore
bluestore block size = {record.osd_size_bytes}
osd memory target = {memory}
osd mclock skip benchmark = true
# A file counts as a rotating disk, for which the OSD pauses 5 s before each object of a removed snap that it trims.
osd snap trim sleep hdd = 0
{daemon}"""

_DAEMON = """\
log file = {directory}/log/$name.log
mon cluster log file = {directory}/log/$channel.log
pid file = {directory}/run/$name.pid
admin socket = {directory}/run/$name.asok
"""


def conf(directory: Path, record: Record) -> str:
    return _CONF.format(
        directory=directory,
        record=record,
        monitors=monitors(record.address),
        copies=min(record.osds, 3),
        memory=GIB,
        daemon=_DAEMON.format(directory=directory),
    )
