from pathlib import Path

import pytest

from pymon.sources.errors import SourceError
from pymon.sources.node.arcstats import Arcstats
from pymon.sources.node.zfs import Zfs
from tests.sources.node.rows import collected, rows

FIXTURES = sorted(Path(__file__).parents[2].glob("fixtures/*/proc/spl/kstat/zfs/arcstats"))


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.parts[-6])
def test_it_has_what_the_collector_zfs_has(path):
    procfs = path.parents[3]
    assert rows(collected(Arcstats(procfs))["node_zfs_arcstats"]) == rows(collected(Zfs(procfs))["node_zfs_arcstats"])


def test_no_zfs(tmp_path):
    source = Arcstats(tmp_path)
    with pytest.raises(SourceError) as caught:
        collected(source)
    assert (caught.value.reason, source.problems) == ("nodata", [])


def test_a_file_that_is_no_kstat(tmp_path):
    root = tmp_path / "spl/kstat/zfs"
    root.mkdir(parents=True)
    (root / "arcstats").write_bytes(b"nothing of use\n")
    with pytest.raises(SourceError, match="arcstats: expected lines of name, type and an integer"):
        collected(Arcstats(tmp_path))
