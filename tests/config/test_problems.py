"""How a wrong value is shown: on one line, short, and without what may be a secret."""

import pytest

from tornado_gateway.config.problems import LONGEST_SHOWN, MASK, shown


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a\nb\x1b\u2028é\udcff", r'"a\nb\u001b\u2028\u00e9\udcff"'),
        ("x" * (LONGEST_SHOWN - 2), f'"{"x" * (LONGEST_SHOWN - 2)}"'),
        ("x" * (LONGEST_SHOWN - 1), f'"{"x" * (LONGEST_SHOWN - 4)}...'),
        ("http://me:pa/ss@w@host/", f'"http://{MASK}@host/"'),
        ("me:pass\n@host", f'"{MASK}@host"'),
        ('{"a": ["http://me:pass@host"]}', rf'"{MASK}@host\"]}}"'),
        ("http://" + "x" * 100 + "@host", f'"http://{MASK}@host"'),
        ("http://host/a?key=1", f'"http://host/a?{MASK}"'),
        ("http://host#key", f'"http://host#{MASK}"'),
        ("http://host;key=1", f'"http://host;key={MASK}"'),
        ("http://me:pass", f'"http://me:{MASK}"'),
        ("http:/me:pass/x", f'"http:/me:{MASK}/x"'),
        ("http://[::1]:8o", f'"http://[::1]:{MASK}"'),
        ("http://host:99999/x", '"http://host:99999/x"'),
        ("http://host?", '"http://host?"'),
    ],
)
def test_how_a_value_is_shown(value: object, text: str) -> None:
    assert shown(value) == text
