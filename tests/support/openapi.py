"""OpenAPI 3.1, as far as the gateway's document goes: what is wrong with a document, and with a value of a schema.

A word of JSON Schema that is not in WORDS is a mistake of the document here: a test would not check the word.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

WORDS = {
    "$ref", "type", "description", "enum", "default", "properties", "required", "additionalProperties", "items",
    "minItems", "maxItems", "minimum", "maximum", "minLength", "maxLength", "oneOf", "dependentRequired",
}  # fmt: skip
TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,), "array": (list,), "string": (str,), "integer": (int,), "number": (int, float),
    "boolean": (bool,), "null": (type(None),),
}  # fmt: skip
METHODS = ("get", "post", "delete")

Node = Mapping[str, Any]


def resolve(document: Node, node: Node) -> Node:
    """The node that a reference means; a node without a reference is itself."""
    if "$ref" not in node:
        return node
    assert set(node) == {"$ref"}
    found: Any = document
    for name in node["$ref"].removeprefix("#/").split("/"):
        found = found[name]
    return resolve(document, found)


def complaints(document: Node, schema: Node, value: object, place: str = "$") -> Iterator[str]:
    """What is wrong with a value."""
    schema = resolve(document, schema)
    wanted = schema.get("type", [])
    types = [wanted] if isinstance(wanted, str) else wanted
    if types and not any(_is_of(each, value) for each in types):
        yield f"{place}: {value!r} is no {' or '.join(types)}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{place}: {value!r} is none of {schema['enum']}"
    if isinstance(value, dict):
        yield from _of_object(document, schema, value, place)
    elif isinstance(value, list):
        yield from _of_size(schema, len(value), "Items", place)
        for index, each in enumerate(value):
            yield from complaints(document, schema.get("items", {}), each, f"{place}[{index}]")
    elif isinstance(value, str):
        yield from _of_size(schema, len(value), "Length", place)
    elif isinstance(value, int | float):
        yield from _of_size(schema, value, "imum", place)


def _is_of(name: str, value: object) -> bool:
    return isinstance(value, TYPES[name]) and (name == "boolean" or not isinstance(value, bool))


def _of_size(schema: Node, size: float, what: str, place: str) -> Iterator[str]:
    if size < schema.get(f"min{what}", size) or size > schema.get(f"max{what}", size):
        yield f"{place}: {size} is too small or too large"


def _of_object(document: Node, schema: Node, value: dict[str, Any], place: str) -> Iterator[str]:
    known = schema.get("properties", {})
    for name in schema.get("required", []):
        if name not in value:
            yield f"{place}: {name} is missing"
    for name, each in value.items():
        if name in known:
            yield from complaints(document, known[name], each, f"{place}.{name}")
        elif schema.get("additionalProperties", True) is False:
            yield f"{place}: {name} is not described"
    for name, others in schema.get("dependentRequired", {}).items():
        if name in value and not set(others) <= set(value):
            yield f"{place}: {name} without {others}"
    if "oneOf" in schema and sum(not list(complaints(document, each, value)) for each in schema["oneOf"]) != 1:
        yield f"{place}: not one of oneOf"


def mistakes(document: Node) -> Iterator[str]:
    """What is wrong with a document."""
    if not re.fullmatch(r"3\.1\.\d+", document["openapi"]) or not document["info"]["title"]:
        yield "no OpenAPI 3.1, or without a title"
    for path, schema in _schemas(document, "#"):
        yield from (f"{path}: {word} is no word that is checked" for word in set(schema) - WORDS)
    for path, _ in _references(document, "#"):
        if not _leads_somewhere(document, path):
            yield f"{path} leads nowhere"
    seen: set[str] = set()
    for path, item in document["paths"].items():
        named = set(re.findall(r"{(\w+)}", path))
        for method in set(item) - {"parameters"}:
            operation = item[method]
            given = [*item.get("parameters", []), *operation.get("parameters", [])]
            in_path = {each["name"] for each in given if each["in"] == "path" and each.get("required")}
            if (
                method not in METHODS
                or in_path != named
                or operation["operationId"] in seen
                or not operation["summary"]
            ):
                yield f"{method} {path}: method, parameters, operationId or summary"
            seen.add(operation["operationId"])
            for status, answer in operation["responses"].items():
                if not re.fullmatch(r"[2-5]\d\d", status) or not resolve(document, answer)["description"]:
                    yield f"{method} {path} {status}: no status, or without a description"


def _schemas(node: Any, path: str) -> Iterator[tuple[str, Node]]:
    """All schemas with their places."""
    if isinstance(node, list):
        for index, each in enumerate(node):
            yield from _schemas(each, f"{path}/{index}")
    elif isinstance(node, dict):
        for name, each in node.items():
            if name == "schema":
                yield from _within(each, f"{path}/schema")
            elif name == "schemas":
                for of, schema in each.items():
                    yield from _within(schema, f"{path}/schemas/{of}")
            else:
                yield from _schemas(each, f"{path}/{name}")


def _within(schema: Node, path: str) -> Iterator[tuple[str, Node]]:
    yield path, schema
    for name, each in schema.get("properties", {}).items():
        yield from _within(each, f"{path}/{name}")
    for name in ("items",):
        if name in schema:
            yield from _within(schema[name], f"{path}/{name}")
    for each in schema.get("oneOf", []):
        yield from _within(each, f"{path}/oneOf")


def _references(node: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"], path
        for name, each in node.items():
            yield from _references(each, f"{path}/{name}")
    elif isinstance(node, list):
        for each in node:
            yield from _references(each, path)


def _leads_somewhere(document: Node, reference: str) -> bool:
    try:
        resolve(document, {"$ref": reference})
    except KeyError:
        return False
    return True
