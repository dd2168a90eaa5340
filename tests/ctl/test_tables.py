"""Tables for a terminal."""

from tornado_gateway.ctl.tables import WIDEST, table, written


def test_a_table_without_rows_has_its_columns() -> None:
    assert table(["service", "rate"], []) == "service  rate"


def test_columns_are_as_wide_as_their_widest_cell_and_numbers_stand_to_the_right() -> None:
    rows = [["a", 1, True], ["billing", 1000, False]]
    assert table(["service", "n", "up"], rows).splitlines() == [
        "service     n  up",
        "a           1  yes",
        "billing  1000  no",
    ]


def test_hostile_values_neither_steer_the_terminal_nor_break_the_table() -> None:
    assert written("a\x1b[2J\n\u202e\x00") == "a\\x1b[2J\\n\\u202e\\x00"
    assert len(written("x" * 100_000)) == WIDEST


def test_numbers_are_short() -> None:
    assert [written(each) for each in (0, 0.0, 0.12345, 12.345, 123456.7)] == ["0", "0", "0.123", "12.3", "123457"]
