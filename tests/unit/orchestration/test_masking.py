"""What a tenant hides stays hidden, under its names and in texts made of it."""

from __future__ import annotations

from services.orchestration.masking import HIDDEN, MAX_SECRETS, Mask, Secrets


def test_names_are_patterns_without_regard_to_case() -> None:
    mask = Mask.of("CollectedDigits, card*")
    assert mask.hides("collecteddigits")
    assert mask.hides("CardNumber")
    assert not mask.hides("digits")
    assert not mask.hides("discard")


def test_without_names_nothing_is_hidden_and_nothing_copied() -> None:
    mask, value = Mask.of(""), {"a": [1, {"b": 2}]}
    assert not mask
    assert mask.json(value) is value
    assert list(mask.secrets(value)) == []


def test_members_of_objects_and_pairs_of_user_data_are_hidden() -> None:
    mask = Mask.of("pin")
    value = {"PIN": "1234", "deep": [{"pin": {"x": "5678"}}, ["pin", "9999"], ("Pin", 7)], "open": "1"}
    assert mask.json(value) == {
        "PIN": HIDDEN,
        "deep": [{"pin": HIDDEN}, ["pin", HIDDEN], ["Pin", HIDDEN]],
        "open": "1",
    }
    assert set(mask.secrets(value)) == {"1234", "5678", "9999", "7"}


def test_a_list_of_two_texts_whose_first_is_no_name_stays() -> None:
    assert Mask.of("pin").json(["a", "b"]) == ["a", "b"]


def test_texts_lose_the_values_longest_first() -> None:
    secrets = Secrets()
    secrets.add(["1234", "12345678", "1"])
    assert secrets.hide("card 12345678, pin 1234, 1 of 1") == f"card {HIDDEN}, pin {HIDDEN}, 1 of 1"


def test_secrets_are_bounded_and_the_newest_stay() -> None:
    secrets = Secrets()
    secrets.add(f"value-{n:04}" for n in range(MAX_SECRETS + 10))
    assert secrets.hide("value-0000") == "value-0000"
    assert secrets.hide(f"value-{MAX_SECRETS + 9:04}") == HIDDEN


def test_what_nests_too_deep_is_hidden_whole() -> None:
    value: object = "x"
    for _ in range(40):
        value = [value]
    hidden = Mask.of("pin").json(value)
    while isinstance(hidden, list):
        hidden = hidden[0]
    assert hidden == HIDDEN
