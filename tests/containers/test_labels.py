"""Runtime labels as labels of metrics."""

import pytest

from pymon.containers.labels import LabelExport, label_name


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("app", "container_label_app"),
        ("com.example/app-2", "container_label_com_example_app_2"),
        ("\u00e9", "container_label__"),
        ('"} evil 1\n', "container_label____evil_1_"),
    ],
)
def test_names(key, name):
    assert label_name(key) == name


def test_every_container_carries_every_key():
    export = LabelExport(["tier", "com.example/app"])
    assert export.names == ("container_label_tier", "container_label_com_example_app")
    assert export.values({"com.example/app": "web", "other": "x"}) == ("", "web")
    assert export.values({}) == ("", "")


def test_the_first_key_wins_a_clash():
    export = LabelExport(["a.b", "a-b", "a.b", "a_b"])
    assert export.names == ("container_label_a_b",)
    assert export.dropped == ("a-b", "a_b")
    assert export.values({"a-b": "no", "a.b": "yes"}) == ("yes",)


def test_nothing_is_exported_unasked():
    assert LabelExport().names == ()
    assert LabelExport().values({"a": "b"}) == ()


def test_an_empty_key():
    with pytest.raises(ValueError, match=r"^container\.label: empty, expected the key of a runtime label$"):
        LabelExport([""])
