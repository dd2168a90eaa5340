"""Lines of .env files: the meaning of each line, refusals with line numbers, and that no line is lost."""

import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.fuzzing import fuzzing
from tornado_gateway.config.env_file import parse_env, read_env_file
from tornado_gateway.config.problems import ConfigurationError

KEY = "correct-horse-battery-staple-1234"


def values(text: str) -> dict[str, str]:
    return dict(parse_env(text.encode(), ".env").values)


def problems(content: bytes | str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        parse_env(content.encode() if isinstance(content, str) else content, ".env")
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=1", "1"),
        ("A=", ""),
        ("A = 1", "1"),
        ("\tA\t=\t1\t", "1"),
        ("export A=1", "1"),
        ("  export \t A = 1", "1"),
        ("A=a b  c", "a b  c"),
        ("A=a=b==", "a=b=="),
        ("A=1 # one", "1"),
        ("A=1\t#one", "1"),
        ("A=1 # one # two", "1"),
        ("A= # nothing", ""),
        ("A=''", ""),
        ('A="" # nothing', ""),
        ("A='a # b'", "a # b"),
        ("A='a#b'\t# c", "a#b"),
        ('A="a#b"', "a#b"),
        ("A=' a '", " a "),
        (r"A='a\nb\'", r"a\nb" + "\\"),
        ("A='\"'", '"'),
        ('A="\'"', "'"),
        (r'A="a\"b\\c\$d\ne\rf\tg"', 'a"b\\c$d\ne\rf\tg'),
        (r'A="\${B}"', "${B}"),
        ("A='${B} $(c)'", "${B} $(c)"),
        ("A=$B$", "$B$"),
        ('A="$B"', "$B"),
        (r"A=C:\dir\n", r"C:\dir\n"),
        ("A=it's", "it's"),
        ('A=a"b', 'a"b'),
        ('A=a"b" # c', 'a"b"'),
        ("A=a`b`", "a`b`"),
        ("A=a;b&c=d", "a;b&c=d"),
        ("A=é\u00a0", "é\u00a0"),
        ('A={"svc": ["http://127.0.0.1:1"]}', '{"svc": ["http://127.0.0.1:1"]}'),
        ('A=\'{"svc": ["http://name#10.0.0.7"]}\' # pinned', '{"svc": ["http://name#10.0.0.7"]}'),
        (r'A="{\"svc\": [\"http://127.0.0.1:1\"]}"', '{"svc": ["http://127.0.0.1:1"]}'),
    ],
)
def test_a_line_means_what_it_says(line: str, value: str) -> None:
    assert values(line) == {"A": value}
    assert values(f"\ufeff{line}\r\n") == {"A": value}
    assert values(f"B=2\n{line}\n\nC=3") == {"B": "2", "A": value, "C": "3"}


@pytest.mark.parametrize("text", ["", "\n", " \t\r\n\n", "# A=1", "  # A=1\n\t#", "\ufeff# A=1", "#A#=b\n#'"])
def test_comments_and_empty_lines_set_nothing(text: str) -> None:
    assert values(text) == {}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("A", "sets nothing: it has no ="),
        ("A: true", "sets nothing: it has no ="),
        ("export A", "sets nothing: it has no ="),
        ("export", "sets nothing: it has no ="),
        ("true # A=", 'sets no variable: " " before the ='),
        ("=1", "sets no variable: nothing before the ="),
        ("1A=1", "sets no variable: a digit before the ="),
        ("A-B=1", 'sets no variable: "-" before the ='),
        ("A.B=1", 'sets no variable: "." before the ='),
        ("A: b=1", 'sets no variable: ":" before the ='),
        ("set A=1", 'sets no variable: " " before the ='),
        ("'A'=1", 'sets no variable: "\'" before the ='),
        ("É=1", 'sets no variable: "\\u00c9" before the ='),
        ("\u200bA=1", 'sets no variable: "\\u200b" before the ='),
        ("A+=1", 'sets no variable: "+" before the ='),
        ("A=b#c", "A: has a # that touches the text before it"),
        ("A=#b", "A: has a # that touches the text before it"),
        ("A=b#c # d", "A: has a # that touches the text before it"),
        ("A=b ##c#", None),
        ("A='b'#c", "A: has text behind its closing quote"),
        ("A='b'c", "A: has text behind its closing quote"),
        ("A='b' c", "A: has text behind its closing quote"),
        ("A='b''c'", "A: has text behind its closing quote"),
        (r"A='it\'s'", "A: has text behind its closing quote"),
        ("A='b", "A: has a quote that is not closed on its line"),
        ('A="b', "A: has a quote that is not closed on its line"),
        (r'A="b\"', "A: has a quote that is not closed on its line"),
        ("A='", "A: has a quote that is not closed on its line"),
        (r'A="\q"', "A: has an escape of unknown meaning"),
        (r'A="\'"', "A: has an escape of unknown meaning"),
        (r'A="C:\dir"', "A: has an escape of unknown meaning"),
        ('A=b "c # d"', "A: has a # within a pair of quotes"),
        ("A=`b`", "A: has a backquote first, or a backslash last"),
        ("A=b\\", "A: has a backquote first, or a backslash last"),
        ("A=${B}", "A: has ${ or $(, and nothing is put in their place"),
        ("A=x-${B}", "A: has ${ or $(, and nothing is put in their place"),
        ('A="${B}"', "A: has ${ or $(, and nothing is put in their place"),
        ("A=$(b)", "A: has ${ or $(, and nothing is put in their place"),
        ("A=b B=c", "A: is followed by another NAME="),
        ("export A=b B=c", "A: is followed by another NAME="),
        ("A=b;B=c", "A: is followed by another NAME="),
        ("A=b\0", 'holds the character "\\u0000"'),
        ("A=b\rB=c", 'holds the character "\\r"'),
        ("# b\rA=c", 'holds the character "\\r"'),
        ("# b\u2028A=c", 'holds the character "\\u2028"'),
        ("A=b\x0bB=c", 'holds the character "\\u000b"'),
        ("# b\x85A=c", 'holds the character "\\u0085"'),
    ],
)
def test_a_line_that_could_mean_something_else_is_refused_with_its_number(line: str, reason: str | None) -> None:
    if reason is None:
        assert values(line) == {"A": "b"}
        return
    (problem,) = problems(f"B=2\n\n{line}\r\nC=3\n")
    assert problem.startswith(f".env:3: {reason}; allowed: ")
    assert problem.isascii() and problem.isprintable()


@pytest.mark.parametrize(
    "content", [b"A=1\nB=\xff\n", b"# caf\xe9", "A=1\n".encode("utf-16"), "A=1".encode("utf-16-be")]
)
def test_a_line_that_is_not_utf_8_is_refused_with_its_number(content: bytes) -> None:
    assert all(re.match(r"\.env:[12]: (is not UTF-8|holds the character)", each) for each in problems(content))


def test_a_byte_order_mark_is_skipped_where_a_file_begins_and_nowhere_else() -> None:
    assert values("\ufeffA=1") == {"A": "1"}
    assert problems("A=1\n\ufeffB=1") == [
        '.env:2: sets no variable: "\\ufeff" before the =; allowed: a name of letters, digits and _, not a digit first'
    ]


def test_each_wrong_line_is_a_problem() -> None:
    assert [line.split(":")[1] for line in problems("A\nB=1\n\n'\nC='\nD=a#b")] == ["1", "4", "5", "6"]


def test_the_last_of_two_settings_counts_and_the_warning_names_both_lines() -> None:
    found = parse_env(b"A=1\nB=2\n\nA=3\nA=\n", "x.env")
    assert (found.values, found.places) == ({"A": "", "B": "2"}, {"A": "x.env:5", "B": "x.env:2"})
    assert found.warnings == (
        "A is set twice: the value at x.env:4 counts, not the one at x.env:1",
        "A is set twice: the value at x.env:5 counts, not the one at x.env:4",
    )


@pytest.mark.parametrize(
    "line", [f"{KEY}", f"JWT_SECRET={KEY}#", f'JWT_SECRET="{KEY}', f"{KEY}=", f"JWT_SECRET='{KEY}' {KEY}", f"A {KEY}="]
)
def test_a_value_is_never_shown(line: str) -> None:
    assert "horse" not in problems(line)[0]


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    for path, reason in ((tmp_path, "Is a directory"), (tmp_path / "no", "No such file"), ("a\0b", "not a path")):
        with pytest.raises(ConfigurationError, match=reason) as caught:
            read_env_file(str(path))
        assert len(caught.value.problems) == 1


def test_a_file_is_read_whole(tmp_path: Path) -> None:
    file = tmp_path / "é.env"
    file.write_bytes(b"A=1\r\nB='2'\r\n")
    assert read_env_file(str(file)).values == {"A": "1", "B": "2"}
    file.write_bytes(b"A")
    with pytest.raises(ConfigurationError, match=r"\\u00e9\.env:1: sets nothing"):
        read_env_file(str(file))


# ---------------------------------------------------------------- any file


def straightforward(line: str) -> tuple[str, str] | None:
    """A line read one character after the other: name and value; None where that is not straightforward."""
    name, _, rest = line.partition("=")
    words = name.replace("\t", " ").split()
    words = words[1:] if len(words) == 2 and words[0] == "export" else words
    if len(words) != 1 or not words[0].isidentifier() or not words[0].isascii():
        return None
    value, kept, quote, characters = "", 0, "", list(rest)
    while characters and characters[0] in " \t":
        characters.pop(0)
    blank = rest[:1] in (" ", "\t")
    if characters and characters[0] in "'\"":
        quote = characters.pop(0)
        while characters and characters[0] != quote:
            character = characters.pop(0)
            if character == "\\" and quote == '"':
                character = {"n": "\n", "r": "\r", "t": "\t"}.get(characters[0], characters[0])
                characters.pop(0)
            value += character
        characters.pop(0)
        kept, blank = len(value), False
    for character in characters:
        if character == "#":
            return (words[0], value[:kept]) if blank else None
        blank = character in " \t"
        value += character
        kept = kept if blank else len(value)
    return words[0], value[:kept]


alphabet = st.sampled_from([*"A=#'\"\\ \t$n{(`;", "export ", "A=", "\n", "\r\n", "\r", "\0", "é", "\u2028", "\ufeff"])
lines = st.lists(alphabet, max_size=12).map("".join)
texts = st.lists(st.one_of(lines, lines.map("A=".__add__), lines.map("# ".__add__)), max_size=6).map("\n".join)


@fuzzing(250)
@given(texts.map(str.encode) | st.binary(max_size=30))
@example(b"A=1\nA=2\n\xef\xbb\xbfA=3\n")
@example(b"Aexport A=1")
def test_any_file_means_what_a_straightforward_reader_reads_or_is_refused_line_by_line(content: bytes) -> None:
    lines_there = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    try:
        found = parse_env(content, "f")
    except ConfigurationError as error:
        numbers = [int(str(problem).split(":")[1]) for problem in error.problems]
        assert numbers == sorted(set(numbers)) and numbers[0] >= 1 and numbers[-1] <= len(lines_there)
        for problem in error.problems:
            assert str(problem).isascii() and str(problem).isprintable()
        return
    texts_there = [line.removesuffix(b"\r").decode() for line in lines_there]
    set_there = [straightforward(each) for each in texts_there if each.strip(" \t") and each.strip(" \t")[0] != "#"]
    assert None not in set_there
    assert found.values == dict(filter(None, set_there))
    assert len(found.warnings) == len(set_there) - len(found.values)


plain = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=12)
names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,9}", fullmatch=True)
blanks = st.text(" \t", max_size=2)


def double_quoted(value: str) -> str:
    escapes = {'"': r"\"", "\\": r"\\", "$": r"\$", "\n": r"\n", "\r": r"\r", "\t": r"\t"}
    return '"' + "".join(escapes.get(character, character) for character in value) + '"'


@fuzzing(50)
@given(st.data())
def test_quoted_values_round_trip(data: st.DataObject) -> None:
    wanted = data.draw(st.dictionaries(names, plain | plain.map("\n\r\t$".join), max_size=4))
    written = []
    for name, value in wanted.items():
        single = "'" not in value and "\n" not in value and "\r" not in value
        quoted = f"'{value}'" if single and data.draw(st.booleans()) else double_quoted(value)
        before, after = (
            data.draw(st.sampled_from(["", "export ", " export\t"])),
            data.draw(st.sampled_from(["", " # c"])),
        )
        written.append(f"{before}{name}{data.draw(blanks)}={data.draw(blanks)}{quoted}{data.draw(blanks)}{after}")
    end, mark = data.draw(st.sampled_from(["\n", "\r\n"])), data.draw(st.sampled_from(["", "\ufeff"]))
    assert values(mark + end.join(written)) == wanted
