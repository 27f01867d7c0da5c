# SPDX-License-Identifier: Apache-2.0 OR GPL-3.0-only
"""A YAML document as cloud-init reads it, with the place of everything in it."""

import re
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple, Union

import yaml

from ..policy import Path

# No cloud takes a tenth of either; they bound the time for a file that was made to take long to about a second.
MAX_DEPTH = 50
MAX_VALUES = 50000
_LONGEST_NUMBER = 1000
# What YAML forbids (1.1, section 5.1) but for surrogates, which no UTF-8 holds, and a mark inside, which PyYAML takes
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]")
# In these libyaml and PyYAML's own parser, which cloud-init uses, do not agree (3m with a tab after it is an error).
_READ_OTHERWISE = re.compile(r"[?\t\x85\u2028\u2029\ufeff]|[|>][-+0-9]*#|!(?![\w!<])")
_BREAK = re.compile("\r\n|[\r\n\x85\u2028\u2029]")
_TAG = "tag:yaml.org,2002:"
_SEQUENCE_TAGS = {_TAG + name for name in ("seq", "omap", "pairs")}
_MAPPING_TAGS = {_TAG + name for name in ("map", "set")}
# What libyaml says from 0.2.6 on of the 1,001st open bracket, maybe before any event; text before that one has events.
_TOO_DEEP = "exceeded maximum nesting depth"
# Where the fast parser refuses a text that is not longer, the one that cloud-init uses has the last word.
_SHORT = 1 << 16
# That one takes seconds for a MiB.
_LONGEST_SLOW = 1 << 19


class Place(NamedTuple):
    """Point into a text, in characters from 1 on; `end` is the column after the last one, 0 the line's end."""

    line: int
    column: int
    end: int


class Scalar(NamedTuple):
    """Hold a key or value: its place, its `value` in Python, and as `written` if it is not in quotes."""

    place: Place
    value: Any
    written: Optional[str]


class DocumentError(ValueError):
    """Say why cloud-init would read nothing of a document, and where."""

    def __init__(self, place: Place, message: str) -> None:
        super().__init__(message)
        self.place = place
        self.message = message


class Node:
    """Hold a value with its `items`: none, those of a list, or keys and values in turn."""

    __slots__ = ("height", "is_open", "items", "kind", "place", "size", "tag", "value", "written")

    def __init__(self, kind: str, place: Place, tag: Optional[str] = None) -> None:
        self.kind = kind
        self.place = place
        self.tag = tag
        self.items: List[Use] = []
        self.value: Any = None
        self.written: Optional[str] = None
        self.is_open = kind != "scalar"
        # With aliases counted as often as they are used
        self.size = self.height = 1

    @property
    def pairs(self) -> List[Tuple["Use", "Use"]]:
        """Return the keys and values of a mapping, as they are written."""
        return list(zip(self.items[::2], self.items[1::2]))


class Use(NamedTuple):
    """Hold a node where it is used, which for an alias is not where it is written."""

    node: Node
    place: Place


class Duplicate(NamedTuple):
    """Say which key is given once more, and in which line before."""

    path: Path
    place: Place
    line: int


Entries = Dict[Any, Tuple[Use, Use]]


def lines(text: str) -> List[str]:
    """Return the lines of a text, as YAML and Place count them."""
    return _BREAK.split(text)


def place_after(text: str) -> Place:
    """Return the place of the character that follows a text."""
    before = lines(text)
    return Place(len(before), len(before[-1]) + 1, len(before[-1]) + 2)


def parse(text: str) -> Use:
    """Return the top of a document; raise DocumentError where cloud-init could not load it."""
    forbidden = _FORBIDDEN.search(text)
    if forbidden:
        place = place_after(text[: forbidden.start()])
        raise DocumentError(place, f"character U+{ord(forbidden.group()):04X} is not allowed in YAML")
    fast = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    if _READ_OTHERWISE.search(text):
        fast = yaml.SafeLoader
    if fast is yaml.SafeLoader and len(text) > _LONGEST_SLOW:
        needed = "it requires libyaml, in PyYAML and for the characters in it"
        raise DocumentError(Place(1, 1, 0), f"more than {_LONGEST_SLOW >> 10} KiB, not checked: {needed}")
    try:
        return _compose(fast(text))
    except yaml.YAMLError as error:
        problem = error
    if isinstance(problem, yaml.MarkedYAMLError) and problem.problem == _TOO_DEEP and problem.problem_mark:
        try:
            return _compose(fast(text[: problem.problem_mark.index]))
        except yaml.YAMLError as error:
            problem = error
    if fast is not yaml.SafeLoader and len(text) <= _SHORT:
        try:
            return _compose(yaml.SafeLoader(text))
        except yaml.YAMLError as error:
            problem = error
    raise _not_parsed(problem, text)


def entries(mapping: Node) -> Entries:
    """Return keys and values that a mapping has once `<<` is merged.

    The last of equal keys counts, and of what one `<<` merges the first, as in YAML and in all PyYAML but 6.0.4.
    """
    own: Entries = {}
    merged: Entries = {}
    for key, use in mapping.pairs:
        if key.node.tag == _TAG + "merge":
            for source in reversed(_sources(use)):
                merged.update(entries(source))
        else:
            own[key.node.value] = key, use
    merged.update(own)
    return merged


def _sources(use: Use) -> List[Node]:
    """Return the mappings that a `<<` with this value merges."""
    return [use.node] if use.node.kind == "mapping" else [item.node for item in use.node.items]


def expand(use: Use, path: Path, scalars: Dict[Path, Scalar]) -> Any:
    """Return the value at a path and note where it, and all that is in it, stands: `path + ("", )` is for its key."""
    node = use.node
    scalars[path] = Scalar(use.place, node.value, node.written)
    if node.kind == "sequence":
        return [expand(item, (*path, index), scalars) for index, item in enumerate(node.items)]
    if node.kind == "mapping":
        value = {}
        for name, (key, item) in entries(node).items():
            value[name] = expand(item, (*path, name), scalars)
            scalars[(*path, name, "")] = Scalar(key.place, name, key.node.written)
        return value
    return node.value


def duplicates(top: Node) -> List[Duplicate]:
    """Return the keys that a mapping of the document has more than once; YAML would keep the last."""
    found = []
    for path, mapping in _mappings(top):
        first: Dict[Any, Use] = {}
        for key, _ in mapping.pairs:
            name = key.node.value
            if key.node.tag != _TAG + "merge" and first.setdefault(name, key) is not key:
                found.append(Duplicate((*path, str(name)), key.place, first[name].place.line))
    return found


def ambiguous(top: Node) -> List[Duplicate]:
    """Return the keys that a mapping gets from more than one mapping by `<<`; `line` is the first one's.

    PyYAML 6.0.4 takes another of them than the versions before it (https://github.com/yaml/pyyaml/issues/953).
    """
    found = []
    for path, mapping in _mappings(top):
        own = {key.node.value for key, _ in mapping.pairs}
        first: Dict[Any, Use] = {}
        for merge, use in mapping.pairs:
            for source in _sources(use) if merge.node.tag == _TAG + "merge" else []:
                for name, (key, value) in entries(source).items():
                    if name not in own and first.setdefault(name, value).node is not value.node:
                        found.append(Duplicate((*path, str(name)), key.place, first[name].place.line))
    return found


def _mappings(top: Node) -> Iterator[Tuple[Path, Node]]:
    """Yield the mappings of a document, each once, with the path to it."""
    seen = {id(top)}
    waiting: List[Tuple[Path, Node]] = [((), top)]
    while waiting:
        path, node = waiting.pop()
        children: List[Tuple[Union[str, int], Node]]
        if node.kind == "mapping":
            yield path, node
            children = [(str(key.node.value), use.node) for key, use in node.pairs]
        else:
            children = [(index, use.node) for index, use in enumerate(node.items)]
        for step, child in children:
            if child.kind != "scalar" and id(child) not in seen:
                seen.add(id(child))
                waiting.append(((*path, step), child))


def _compose(loader: Any) -> Use:
    """Return the top of what a loader reads; its events are taken one by one, since nothing else bounds the depth."""
    try:
        return _Composer(loader).top()
    finally:
        loader.dispose()


class _Composer:
    def __init__(self, loader: Any) -> None:
        self._loader = loader
        self._anchors: Dict[str, Node] = {}
        self._open: List[Node] = []
        self._values = 0

    def top(self) -> Use:
        top = None
        while self._loader.check_event():
            event = self._loader.get_event()
            kind = type(event).__name__
            place = _place(event)
            if kind == "DocumentStartEvent" and top is not None:
                raise DocumentError(place, "a second document, cloud-init takes files with one only")
            use = None
            if kind == "AliasEvent":
                use = Use(self._alias(event, place), place)
            elif kind in ("ScalarEvent", "SequenceStartEvent", "MappingStartEvent"):
                node = self._node(event, kind, place)
                if node.is_open:
                    self._open.append(node)
                    if len(self._open) > MAX_DEPTH:
                        raise DocumentError(place, f"nested more than {MAX_DEPTH} deep")
                else:
                    use = Use(node, place)
            elif kind in ("SequenceEndEvent", "MappingEndEvent"):
                node = self._open.pop()
                self._close(node, event)
                use = Use(node, node.place)
            if use is not None:
                self._count(place)
                if self._open:
                    self._open[-1].items.append(use)
                else:
                    self._fits(use, None)
                    top = use
        # cloud-init takes an empty document for null.
        return top or Use(Node("scalar", Place(1, 1, 0)), Place(1, 1, 0))

    def _count(self, place: Place) -> None:
        self._values += 1
        if self._values > MAX_VALUES:
            raise DocumentError(place, f"more than {MAX_VALUES} values")

    def _alias(self, event: Any, place: Place) -> Node:
        node = self._anchors.get(event.anchor)
        if node is None:
            raise DocumentError(place, f"alias *{event.anchor} before its anchor")
        if node.is_open:
            raise DocumentError(place, f"alias *{event.anchor} within what it stands for")
        return node

    def _node(self, event: Any, kind: str, place: Place) -> Node:
        if kind == "ScalarEvent":
            node = self._scalar(event, place)
        else:
            is_mapping = kind == "MappingStartEvent"
            known = _MAPPING_TAGS if is_mapping else _SEQUENCE_TAGS
            if event.tag not in (None, "!") and event.tag not in known:
                raise DocumentError(place, f"tag {_tag(event.tag)} does not fit")
            node = Node("mapping" if is_mapping else "sequence", place, event.tag)
        if event.anchor is not None:
            if event.anchor in self._anchors:
                raise DocumentError(place, f"anchor &{event.anchor} a second time")
            self._anchors[event.anchor] = node
        return node

    def _scalar(self, event: Any, place: Place) -> Node:
        tag = event.tag
        if tag is None or tag == "!":
            tag = self._loader.resolve(yaml.ScalarNode, event.value, event.implicit)
        node = Node("scalar", place, tag)
        node.value = event.value
        # style is None in the one parser and "" in the other
        node.written = event.value if not event.style and event.implicit[0] else None
        if tag not in (_TAG + "str", _TAG + "merge", _TAG + "value"):
            if tag != _TAG + "binary" and len(event.value) > _LONGEST_NUMBER:
                raise DocumentError(place, f"a number of more than {_LONGEST_NUMBER} digits")
            try:
                node.value = self._loader.construct_object(yaml.ScalarNode(tag, event.value, event.start_mark))
            except Exception as error:  # PyYAML raises IndexError for !!int '', KeyError for !!bool x, ...
                message = f"not a value that YAML's {_tag(tag)} can have"
                raise DocumentError(place, message) from error
        return node

    def _close(self, node: Node, event: Any) -> None:
        end = event.end_mark
        if end.line + 1 == node.place.line:
            node.place = node.place._replace(end=end.column + 1)
        node.is_open = False
        node.size += sum(use.node.size for use in node.items)
        node.height += max((use.node.height for use in node.items), default=0)
        if node.size > MAX_VALUES:
            raise DocumentError(node.place, f"more than {MAX_VALUES} values once its aliases are expanded")
        if node.height > MAX_DEPTH:
            raise DocumentError(node.place, f"nested more than {MAX_DEPTH} deep once its aliases are")
        for index, use in enumerate(node.items):
            self._fits(use, node.items[index + 1] if node.kind == "mapping" and index % 2 == 0 else None)

    @staticmethod
    def _fits(use: Use, value: Optional[Use]) -> None:
        """Raise DocumentError for what PyYAML takes as no value or, if it has a value, as no key."""
        if value is None:
            if use.node.kind == "scalar" and use.node.tag in (_TAG + "merge", _TAG + "value"):
                raise DocumentError(use.place, f"{use.node.value} as a value, put it in quotes")
        elif use.node.kind != "scalar":
            raise DocumentError(use.place, "a key that is a list or a mapping")
        elif use.node.tag == _TAG + "merge":
            sources = value.node.items if value.node.kind == "sequence" else [value]
            if any(source.node.kind != "mapping" for source in sources):
                raise DocumentError(value.place, "<< merges a mapping or a list of mappings")


def _place(event: Any) -> Place:
    start, end = event.start_mark, event.end_mark
    return Place(start.line + 1, start.column + 1, end.column + 1 if end.line == start.line else 0)


def _tag(tag: str) -> str:
    return "!!" + tag[len(_TAG) :] if tag.startswith(_TAG) else tag


def _not_parsed(error: yaml.YAMLError, text: str) -> DocumentError:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if mark is None:
        return DocumentError(Place(1, 1, 0), f"not YAML: {error}")
    place = Place(mark.line + 1, mark.column + 1, mark.column + 2)
    context = getattr(error, "context", None)
    problem = getattr(error, "problem", None) or str(error)
    message = "not YAML: {}{}".format(problem, f", {context}" if context else "")
    line = (lines(text)[mark.line : mark.line + 1] or [""])[0]
    if line[mark.column : mark.column + 1] == "\t":
        message = "not YAML: a tab, indent with spaces"
    return DocumentError(place, message)
