"""The house is easy to walk through, and what is not yet so may only become less."""

import pytest
from house_source import Module, package
from shape_rules import (
    BOTH_WAYS,
    CROWDED,
    FRAGMENTS,
    MAX_CHAINS,
    MAX_FILES,
    MAX_FLOORS,
    MAX_PUBLIC_TWICE,
    NAMED_TWICE,
    both_ways,
    chains,
    floors,
    folders,
    fragments,
    named_twice,
    public_twice,
)

MODULES = package()


@pytest.mark.parametrize("folder", sorted(folders(MODULES)))
def test_a_folder_is_not_crowded(folder):
    inside = folders(MODULES)[folder]
    most_files, most_floors = CROWDED.get(folder, (MAX_FILES, MAX_FLOORS))
    assert len(inside) <= most_files
    assert floors(inside) <= most_floors


def test_a_folder_that_is_not_crowded_any_more_leaves_the_table():
    inside = folders(MODULES)
    found = {name: (len(inside[name]), floors(inside[name])) for name in CROWDED}
    assert found == CROWDED


def test_a_small_module_with_one_importer_has_a_reason():
    assert fragments(MODULES) == set(FRAGMENTS)


def test_a_name_of_a_module_stands_once():
    assert named_twice(MODULES) == NAMED_TWICE


def test_a_folder_and_one_inside_it_import_each_other_in_one_direction():
    assert both_ways(MODULES) == BOTH_WAYS


def test_public_names_that_stand_twice_become_fewer():
    assert len(public_twice(MODULES)) <= MAX_PUBLIC_TWICE


def test_chains_of_four_dots_become_fewer():
    assert sum(map(chains, MODULES)) <= MAX_CHAINS


def test_each_rule_finds_what_breaks_it():
    a = Module("poeflow.engine.a", "from poeflow.engine.b import f\nx.a.b.c.d\ndef f(): ...\n")
    b = Module("poeflow.engine.b", "def f(): ...\ndef _g(): ...\nx.a.b.c\nf().a.b.c.d\n")
    c = Module("poeflow.engine.c", "from poeflow.engine.a import f\ndef _g(): ...\n")
    other = Module("poeflow.store.b", "")
    assert floors([a, b, c]) == 3
    assert fragments([a, b, c]) == {a.name, b.name}
    assert named_twice([a, b, c, other]) == {"b": 2}
    assert public_twice([a, b, c]) == {"f"}
    inside = Module("poeflow.engine.asking.d", "import poeflow.engine.b\nimport poeflow.clock\n")
    around = Module("poeflow.engine.e", "from poeflow.engine.asking import d\n")
    assert both_ways([a, b, inside, around]) == {"poeflow.engine.asking"}
    assert both_ways([a, b, inside]) == both_ways([a, around, Module(inside.name, "")]) == set()
    assert [chains(one) for one in (a, b, c)] == [1, 0, 0]
