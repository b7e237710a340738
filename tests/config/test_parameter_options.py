"""Parameters as they are written on the command line."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbutils.config import parameter_options
from nbutils.errors import ParameterError


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        (["notebook", "x", "-p", "seed", "3"], ["notebook", "x", "-p", "seed=3"]),
        (["x", "-p", "seed", "-1"], ["x", "-p", "seed=-1"]),
        (["x", "-p", "seed=3", "y"], ["x", "-p", "seed=3", "y"]),
        (["x", "-p", "a", "1", "-p", "b", "c d"], ["x", "-p", "a=1", "-p", "b=c d"]),
        (["x", "-p", "a", "-p", "b", "1"], ["x", "-p", "a", "-p", "b=1"]),
        (["x", "-p", "a"], ["x", "-p", "a"]),
        (["x", "-p"], ["x", "-p"]),
        (["-p", "a", "b=c"], ["-p", "a=b=c"]),
        (["plan", "tiny"], ["plan", "tiny"]),
        ([], []),
    ],
)
def test_a_key_and_a_value_apart_are_joined(given_: list[str], expected: list[str]) -> None:
    before = list(given_)
    assert parameter_options.join_pairs(given_) == expected
    assert given_ == before


NAME = st.text("abc", min_size=1)


@given(st.lists(st.tuples(NAME, NAME | st.integers().map(str))))
def test_both_ways_to_write_a_parameter_are_one(pairs: list[tuple[str, str]]) -> None:
    apart = [word for key, value in pairs for word in ("-p", key, value)]
    joined = [word for key, value in pairs for word in ("-p", f"{key}={value}")]
    assert parameter_options.join_pairs(apart) == parameter_options.join_pairs(joined) == joined


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("seed=3", ("seed", 3)),
        ("temperature=0.7", ("temperature", 0.7)),
        ("source=neox-small", ("source", "neox-small")),
        ("root=a=b", ("root", "a=b")),
        ("method='3'", ("method", "3")),
    ],
)
def test_an_option_is_a_key_and_a_yaml_value(text: str, expected: tuple[str, Any]) -> None:
    key, value = parameter_options.parse(text)
    assert (key, value) == expected
    assert type(value) is type(expected[1])


def test_a_parameter_without_a_value_says_how_to_write_it() -> None:
    with pytest.raises(ParameterError, match="'seed' has no value: write -p seed VALUE"):
        parameter_options.parse("seed")


def test_a_value_that_is_no_yaml_is_an_error() -> None:
    with pytest.raises(ParameterError, match=r"value '\[1' of 'seed' is not valid YAML: line 1"):
        parameter_options.parse("seed=[1")
