"""Registries: tables of named implementations that other modules add to."""

import concurrent.futures
import dataclasses
import time

import pytest

from ditfuse_jax.errors import UserError
from ditfuse_jax.registry import Registry


def double(x: int) -> int:
    return 2 * x


@pytest.fixture
def registry() -> Registry:
    return Registry("function", {"double": double})


def test_an_entry_is_found_by_its_name(registry):
    assert registry["double"] is registry.find("double") is double


def test_an_unknown_name_is_refused_with_the_known_ones(registry):
    registry.register("triple", lambda x: 3 * x)
    with pytest.raises(UserError, match="function 'half' is unknown; choose from double, triple"):
        registry.find("half")
    with pytest.raises(KeyError):
        registry["half"]


def test_a_decorator_registers_and_returns_the_function_itself(registry):
    @registry.register("triple")
    def triple(x):
        return 3 * x

    assert registry["triple"] is triple and triple(2) == 6
    assert list(registry) == ["double", "triple"] and len(registry) == 2


def test_a_taken_name_is_refused_and_the_entry_stays(registry):
    with pytest.raises(UserError, match="'double' is registered already by ditfuse_jax: cho"):
        registry.register("double", lambda x: x + x)
    assert registry["double"] is double


def test_a_registry_does_not_change_the_mapping_it_was_made_from():
    table = {"double": double}
    Registry("function", table).register("triple", lambda x: 3 * x)
    assert list(table) == ["double"]


def test_an_empty_name_is_refused(registry):
    with pytest.raises(UserError, match="a function needs a name"):
        registry.register("", double)


def test_a_decorator_without_a_name_is_refused(registry):
    with pytest.raises(UserError, match="triple: a function needs a name, as in @REG"):

        @registry.register
        def triple(x):
            return 3 * x


def test_a_taken_name_is_refused_with_the_file_that_registered_it(registry):
    registry.register("triple", lambda x: 3 * x)
    registry.register("half")(lambda x: x / 2)
    for name in ("triple", "half"):
        with pytest.raises(UserError, match=rf"{name}' is registered already by .*_registry\.py: "):
            registry.register(name, double)


def test_a_definition_that_runs_again_replaces_itself(registry):
    def cell():
        @registry.register("triple")
        def triple(x):
            return 3 * x

        return triple

    first, again = cell(), cell()
    assert first is not again and registry["triple"] is again


def test_an_instance_of_a_class_that_is_defined_again_replaces_the_first():
    registry = Registry("task")

    def cell(value):
        @dataclasses.dataclass(frozen=True)
        class Stripes:
            width: int

        return registry.register("stripes", Stripes(value))

    cell(1)
    assert cell(2) is registry["stripes"]


def test_two_instances_of_one_class_do_not_share_a_name():
    registry = Registry("number")
    registry.register("x", 1.0)
    with pytest.raises(UserError, match="registered already"):
        registry.register("x", 2.0)


class TestLazyEntries:
    """The package's own entries may come from a function, which runs at the first lookup."""

    @pytest.fixture
    def calls(self):
        return []

    @pytest.fixture
    def lazy(self, calls):
        return Registry("function", lambda: calls.append(1) or {"double": double})

    def test_they_are_made_once_at_the_first_lookup(self, lazy, calls):
        assert not calls
        assert lazy["double"] is double and "half" not in lazy and list(lazy) == ["double"]
        assert calls == [1]

    def test_their_names_cannot_be_taken_before_that(self, lazy):
        with pytest.raises(UserError, match="registered already"):
            lazy.register("double", lambda x: x)

    def test_a_failure_is_raised_again_at_the_next_lookup(self):
        def fail():
            raise UserError("the table is damaged")

        registry = Registry("function", fail)
        for _ in range(2):
            with pytest.raises(UserError, match="the table is damaged"):
                registry.find("double")

    def test_threads_that_look_up_at_once_wait_for_them(self):
        def slow():
            time.sleep(0.1)
            return {"double": double}

        registry = Registry("function", slow)
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            assert all(pool.map(lambda _: registry.find("double") is double, range(4)))
