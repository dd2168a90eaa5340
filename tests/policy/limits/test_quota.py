"""The syntax of policies."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tornado_gateway.policy.limits.quota import LONGEST, MOST, LimitKey, PolicyError, Quota, parse_quotas

KEYS = ["ip", "principal", "route", "header:x-tenant"]


@pytest.mark.parametrize(
    ("text", "quotas"),
    [
        ("100/s", [Quota(100, 1.0)]),
        ("100/10s", [Quota(100, 10.0)]),
        ("5/m, 5000/h;burst=20,", [Quota(5, 60.0), Quota(5000, 3600.0, 20)]),
        ("1/2d;key=header:X-Tenant;burst=3", [Quota(1, 172_800.0, 3, LimitKey("header", "x-tenant"))]),
        ("9/s;scope=gpt:4", [Quota(9, 1.0, scope="gpt:4")]),
        ("off", []),
    ],
)
def test_policies_are_read(text: str, quotas: list[Quota]) -> None:
    assert list(parse_quotas(text)) == quotas


@pytest.mark.parametrize(
    "text",
    [
        "100", "/s", "0/s", "-1/s", "1.5/s", "100/", "100/0s", "100/w", "100/s;", "100/s;burst", "100/s;burst=0",
        "100/s;burst=x", "100/s;burst=1;burst=2", "100/s;size=1", "100/s;key=user", "100/s;key=header:", "1/32d",
        f"{MOST + 1}/s", f"1/s;burst={MOST + 1}", "1/s,x", "off,1/s", "1/s;scope=", "1/s;scope=a b", '1/s;scope="',
    ],
)  # fmt: skip
def test_anything_else_is_refused_and_named(text: str) -> None:
    with pytest.raises(PolicyError) as refused:
        parse_quotas(text)
    assert refused.value.policy in text.split(",")


@given(
    st.lists(
        st.builds(
            Quota,
            st.integers(1, MOST),
            st.integers(1, int(LONGEST)).map(float),
            st.integers(0, MOST),
            st.none() | st.sampled_from(KEYS).map(LimitKey.parse),
            st.sampled_from(["", "read", "a=b/c"]),
        ),
        min_size=1,
    )
)
def test_the_text_of_policies_is_read_as_the_same_policies(quotas: list[Quota]) -> None:
    assert list(parse_quotas(",".join(map(str, quotas)))) == quotas


@pytest.mark.parametrize("text", KEYS)
def test_the_text_of_a_key_is_read_as_the_same_key(text: str) -> None:
    assert str(LimitKey.parse(text)) == text


@pytest.mark.parametrize("text", ["", "IP", "header", "header:", "header:a b", "cookie:a", "ip,route"])
def test_other_keys_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a key"):
        LimitKey.parse(text)
