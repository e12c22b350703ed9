"""Options of networks and heads that make no sense: refused when the network is created, in a line that names them."""

import inspect
import math

import pytest

import symbols
from symbols import registry
from symbols.heads import AGE_HEADS, create_age_head
from tests.network_forms import FORMS

NONSENSE = ("x", "", None, [], {}, math.nan, math.inf, -1)


def options_of_networks():
    return [(form, option) for form in FORMS for option in symbols.create(**FORMS[form]).arguments if option != "name"]


def options_of_heads():
    return [(name, option) for name in AGE_HEADS for option in inspect.signature(AGE_HEADS[name]).parameters]


@pytest.mark.parametrize("form, option", options_of_networks())
def test_no_network_takes_nonsense(form, option):
    for value in NONSENSE:
        with pytest.raises(ValueError, match=option) as caught:
            symbols.create(**{**FORMS[form], option: value})
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name, option", [pair for pair in options_of_heads() if pair[1] != "prefix"])
def test_no_age_head_takes_nonsense(name, option):
    for value in NONSENSE:
        with pytest.raises(ValueError, match=f"age_head: {option}="):
            symbols.create("mobilenet025", age_head={"name": name, option: value})


@pytest.mark.parametrize("network", ["mobilenet025", "agmixer_mobile"])
def test_true_is_no_stride(network):
    with pytest.raises(ValueError, match="stem_stride=True: must be 1 or 2"):
        symbols.create(network, stem_stride=True)


@pytest.mark.parametrize(
    "age_head, reason",
    [
        ({}, "age_head: unknown 'None'; choose one of distribution, dex"),
        ({"name": ["dex"]}, r"age_head: unknown '\['dex'\]'; choose one of"),
        ({"name": "dex", "sgma": 1}, "age_head: dex has no option 'sgma'; choose one of sigma, l1$"),
        ({"name": "dex", "prefix": "mine_"}, "age_head: dex has no option 'prefix'"),
    ],
)
@pytest.mark.parametrize("network", ["mobilenet025", "c3ae"])
def test_an_age_head_that_is_none_is_answered_with_the_choices(network, age_head, reason):
    with pytest.raises(ValueError, match=reason):
        symbols.create(network, age_head=age_head)


def test_a_head_may_be_given_with_its_options():
    assert create_age_head({"name": "dex", "l1": 0.5}).l1 == create_age_head("dex", l1=0.5).l1 == 0.5


@pytest.mark.parametrize("name", [[], None, 5])
def test_a_name_that_is_no_text_is_unknown(name):
    with pytest.raises(ValueError, match="network: unknown"):
        symbols.create(name)


def test_the_least_size_is_no_option():
    with pytest.raises(ValueError, match="mobilenet025: unknown argument 'smallest'"):
        symbols.create("mobilenet025", smallest=2)


@pytest.mark.parametrize(
    "arguments, reason",
    [
        (
            {"name": "mobilenet025", "age_haed": "dex"},
            "mobilenet025: unknown argument 'age_haed'; did you mean 'age_head'?",
        ),
        ({"name": "ssrnet", "colour": 3}, "ssrnet: unknown argument 'colour'; arguments: dropout, first_relu, "),
        ({"name": "essh", "widht": 3}, "essh: unknown argument 'widht'; did you mean 'width'?"),
    ],
)
def test_unknown_arguments_are_named_with_the_known_ones(arguments, reason):
    with pytest.raises(ValueError) as caught:
        symbols.create(**arguments)
    assert str(caught.value).startswith(reason) and "\n" not in str(caught.value)


def test_a_missing_argument_is_named(monkeypatch):
    def sized(size):
        return size

    monkeypatch.setitem(registry._BUILDERS, "sized", sized)
    with pytest.raises(ValueError, match="sized: missing argument 'size'"):
        symbols.create("sized")


def test_a_name_is_registered_once():
    def mobilenet025():
        return None

    for register in (registry.register, registry.register_detector, registry.register_family("mobilenet025")):
        with pytest.raises(ValueError, match="network mobilenet025: is already registered"):
            register(mobilenet025)
