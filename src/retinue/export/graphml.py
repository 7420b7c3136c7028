"""GraphML files, written row by row: libraries for it hold the whole graph in memory."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import XMLGenerator
from xml.sax.xmlreader import AttributesImpl

_NAMESPACE = "http://graphml.graphdrawing.org/xmlns"
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # even as an escape
_KINDS = {bool: "boolean", int: "long", str: "string"}

NODE_FIELDS: dict[str, type] = {
    "username": str,
    "display_name": str,
    "visibility": str,
    "bio_description": str,
    "avatar_url": str,
    "bio_url": str,
    "is_verified": bool,
    "likes_count": int,
    "video_count": int,
}
EDGE_FIELDS: dict[str, type] = {
    "followed_at": int,
    "ended_at": int,
    "following_position": int,
    "followers_position": int,
}

Rows = Iterable[tuple[Any, ...]]


def write_graph(path: Path, nodes: Rows, edges: Rows) -> None:
    """Write a graph. A node is its id and fields, an edge its two ends and fields; None is left out."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        xml = XMLGenerator(file, "utf-8", short_empty_elements=True)
        xml.startDocument()
        xml.startElement("graphml", _attributes(xmlns=_NAMESPACE))
        for owner, fields in (("node", NODE_FIELDS), ("edge", EDGE_FIELDS)):
            for name, kind in fields.items():
                _element(xml, "key", {"id": name, "for": owner, "attr.name": name, "attr.type": _KINDS[kind]})
        xml.startElement("graph", _attributes(edgedefault="directed"))
        for key, *values in nodes:
            _write(xml, "node", {"id": key}, zip(NODE_FIELDS, values, strict=True))
        for follower, followee, *values in edges:
            _write(xml, "edge", {"source": follower, "target": followee}, zip(EDGE_FIELDS, values, strict=True))
        xml.endElement("graph")
        xml.endElement("graphml")
        xml.endDocument()


def _write(xml: XMLGenerator, name: str, attributes: dict[str, str], fields: Iterable[Sequence[Any]]) -> None:
    xml.startElement(name, AttributesImpl({field: _text(value) for field, value in attributes.items()}))
    for field, value in fields:
        if value is not None:
            _element(xml, "data", {"key": field}, _text(value))
    xml.endElement(name)
    xml.characters("\n")


def _element(xml: XMLGenerator, name: str, attributes: dict[str, str], text: str = "") -> None:
    xml.startElement(name, AttributesImpl(attributes))
    lines = text.split("\r")
    xml.characters(lines[0])
    for line in lines[1:]:
        xml.ignorableWhitespace("&#13;")  # readers would take a bare carriage return for a line end
        xml.characters(line)
    xml.endElement(name)


def _attributes(**named: str) -> "AttributesImpl[str]":
    return AttributesImpl(named)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else _NO_XML.sub("\ufffd", str(value))
