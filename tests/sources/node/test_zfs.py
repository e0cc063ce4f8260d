import pytest

from pymon.catalogue.zfs_fields import ZFS_FIELDS
from pymon.sources.errors import SourceError
from pymon.sources.node.zfs import Zfs, parse_dataset_name, parse_pool_io
from tests.sources.node.rows import collected, rows

HEAD = "6 1 0x01 91 4368 5266997922 97951858082072\nname                            type data\n"
IO = (
    b"12 3 0x00 1 80 79205351707403 395818011156865\n"
    b"nread    nwritten reads    writes   wtime    wlentime wupdate  rtime    rlentime rupdate  wcnt     rcnt    \n"
    b"1884160  3206144  22       132      7155162  104112268 79210489694949 24168078 104112268 79210489849220 0  1  \n"
)


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "spl/kstat/zfs"
    root.mkdir(parents=True)
    return root


def kstat(**values):
    return HEAD + "".join(f"{name:<31} {4:<4} {value}\n" for name, value in values.items())


def test_no_zfs(tmp_path):
    with pytest.raises(SourceError, match="ZFS is not loaded") as caught:
        collected(Zfs(tmp_path))
    assert caught.value.reason == "nodata"


def test_zfs_without_statistics(root, tmp_path):
    source = Zfs(tmp_path)
    with pytest.raises(SourceError) as caught:
        collected(source)
    assert caught.value.reason == "nodata"
    assert not source.problems


def test_named_kstats(root, tmp_path):
    (root / "arcstats").write_text(kstat(hits=18446744073709551615, c=5, memory_available_bytes=-7, new=1))
    (root / "fm").write_text(kstat(**{"erpt-dropped": 18}))
    (root / "dmu_tx").write_text(kstat(dmu_tx_assigned="x"))
    (root / "zil").write_text(kstat(zil_commit_count=3, zil_itx_count=4)[:-1])
    source = Zfs(tmp_path)
    tables = collected(source)
    assert rows(tables["node_zfs_arcstats"]) == [({}, {"hits": 2**64 - 1, "c": 5, "memory_available_bytes": 2**64 - 7})]
    assert rows(tables["node_zfs_fm"]) == [({}, {"erpt-dropped": 18})]
    assert rows(tables["node_zfs_zil"]) == [({}, {"zil_commit_count": 3})]
    assert not rows(tables["node_zfs_dmu_tx"])
    assert [(problem.reason, "dmu_tx: expected lines" in str(problem)) for problem in source.problems] == [
        ("parse", True)
    ]


def test_every_field_of_every_file(root, tmp_path):
    for name, fields in ZFS_FIELDS.items():
        (root / name).write_text(kstat(**{field: number for number, field in enumerate(fields, 1)}))
    tables = collected(Zfs(tmp_path))
    for name, fields in ZFS_FIELDS.items():
        assert rows(tables[f"node_zfs_{name}"]) == [({}, {field: number for number, field in enumerate(fields, 1)})]


def test_pools_and_datasets(root, tmp_path):
    (root / "tank").mkdir()
    (root / "tank/io").write_bytes(IO)
    (root / "tank/state").write_text("DEGRADED\n")
    (root / "tank/objset-0x36").write_text(kstat(dataset_name="tank/a b", nread=5, writes=6, zil_itx_count=7))
    (root / "tank/objset-0x37").write_text(kstat(dataset_name="tank/c", reads=1).replace(" 4    tank", " 7    tank"))
    (root / "tank/txgs").write_text("x\n")
    (root / "spare").mkdir()
    (root / "spare/state").write_text("NEWSTATE\n")
    tables = collected(Zfs(tmp_path))
    ((pool, io),) = rows(tables["node_zfs_pool"])
    assert pool == {"zpool": "tank"}
    assert (io["nread"], io["writes"], io["rupdate"], io["wcnt"], io["rcnt"]) == (1884160, 132, 79210489849220, 0, 1)
    states = {labels["zpool"]: cells for labels, cells in rows(tables["node_zfs_pool_state"])}
    assert [name for name, on in states["tank"].items() if on] == ["degraded"]
    assert len(states["tank"]) == 7
    assert not any(states["spare"].values())
    assert rows(tables["node_zfs_dataset"]) == [
        ({"zpool": "tank", "dataset": "tank/a b"}, {"nread": 5, "writes": 6, "zil_itx_count": 7}),
        ({"zpool": "tank", "dataset": "tank/c"}, {"reads": 1}),
    ]


@pytest.mark.parametrize(
    ("data", "fields"),
    [
        (b"", {}),
        (IO.splitlines(keepends=True)[0], {}),
        (b"nread nwritten\n", {}),
        (b"nread nwritten reads\n1 x\n", {"nread": 1}),
        (b"nread nwritten\n1 2", {}),
        (b"nread new\n1 2 3\n", {"nread": 1, "new": 2}),
    ],
)
def test_malformed_io(data, fields):
    assert parse_pool_io(data) == fields


@pytest.mark.parametrize(
    ("data", "name"),
    [(b"", None), (b"dataset_name 7\n", None), (b"dataset_name 7 tank", None), (b"dataset_name 7 t a/b\n", "t a/b")],
)
def test_dataset_name(data, name):
    assert parse_dataset_name(data) == name


def test_a_broken_pool_costs_only_itself(root, tmp_path):
    for pool in ("bad", "good"):
        (root / pool).mkdir()
    (root / "bad/io").write_bytes(b"x\n")
    (root / "bad/state").write_text("")
    (root / "bad/objset-1").write_text(kstat(nread=5))
    (root / "good/io").write_bytes(IO)
    source = Zfs(tmp_path)
    tables = collected(source)
    assert [labels["zpool"] for labels, _ in rows(tables["node_zfs_pool"])] == ["good"]
    assert not rows(tables["node_zfs_pool_state"])
    assert not rows(tables["node_zfs_dataset"])
    assert [problem.reason for problem in source.problems] == ["parse"] * 3
