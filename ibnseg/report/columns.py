"""By which protocol each column of a report was measured: what may stand below one another."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..measure.protocols import SETTINGS
from ..measure.records import Record

Named = list[tuple[Record, str]]  # a record, and where it was read from
Protocols = dict[str, dict[str, dict[str, Any]]]  # domain -> hash -> fields


def by_protocol(named: Named) -> dict[str, Named]:
    """Return the records by protocol, in words, where a network was measured on one domain by
    several, which someone wanted; else all of them by ''."""
    found: dict[tuple, set[str]] = {}
    for record, _ in named:
        network = record.model, record.source, str(record.provenance.get('seed'))
        for one in record.domains:
            found.setdefault((*network, one.domain), set()).add(_words(one.protocol))
    if all(len(several) == 1 for several in found.values()):
        return {'': named}
    parts: dict[str, Named] = {}
    for record, name in named:
        for words in dict.fromkeys(_words(one.protocol) for one in record.domains):
            of = [one for one in record.domains if _words(one.protocol) == words]
            parts.setdefault(words, []).append((replace(record, domains=of), name))
    names = Counter(words.partition(',')[0] for words in parts)
    short = {words: words.partition(',')[0] for words in parts}
    return {short[w] if names[short[w]] == 1 else w: part for w, part in parts.items()}


def _words(protocol: Mapping[str, Any]) -> str:
    """Name a protocol by what it does on every domain alike."""
    name = str(protocol.get('name', 'unnamed'))
    if name.removesuffix('-bfloat16') in SETTINGS.keys() - {'native'}:
        return name  # what it does to a domain is published
    words = [name]
    for key in ('photo', 'keep_ratio', 'crop', 'stride'):
        value = protocol.get(key)
        if value is not None:
            size = 'x'.join(map(str, value)) if isinstance(value, list | tuple) else str(value)
            words.append(f'{key} {size:.20}')
    return ', '.join(words)


def contents(named: Named) -> dict[tuple[str, str], tuple[dict[str, Any], str]]:
    """Return (domain, hash) -> protocol and a record that has it; refuse two of one hash."""
    first: dict[tuple[str, str], tuple[dict[str, Any], str]] = {}
    for one, name in ((one, name) for record, name in named for one in record.domains):
        # Through JSON, so that a fresh record (tuples) equals one that was read (lists).
        content = json.loads(json.dumps(one.protocol))
        protocol, where = first.setdefault((one.domain, one.protocol_hash), (content, name))
        if content != protocol:
            raise ValueError(
                f'{one.domain!r}: {where} and {name} have the same protocol hash '
                f'{one.protocol_hash} but differ in {_differences(protocol, content)}; one was '
                'edited: evaluate it again'
            )
    return first


def protocols(named: Named, mixed: bool) -> tuple[Protocols, list[str]]:
    """Return domain -> hash -> protocol, the most frequent hash first, and notes on mixtures."""
    first = contents(named)
    measured = (one for record, _ in named for one in record.domains)
    times = Counter((one.domain, one.protocol_hash) for one in measured)
    found: Protocols = {domain: {} for domain, _ in first}
    notes = []
    for domain, by_hash in found.items():
        usual, *others = (digest for (d, digest), _ in times.most_common() if d == domain)
        reference, where = first[domain, usual]
        by_hash[usual] = reference
        for digest in others:
            protocol, name = first[domain, digest]
            by_hash[digest] = protocol
            what = (
                f'{domain} was measured by protocol {usual} in {where} and by {digest} in {name}, '
                f'which differ in {_differences(reference, protocol)}'
            )
            if not mixed:
                same = protocol | dict(classes=reference.get('classes')) == reference
                way_out = 'count the same (--classes)' if same else 'evaluate both by one protocol'
                raise ValueError(f'{what}; {way_out}, or accept marked numbers (--mixed)')
            notes.append(f'† {what}: numbers so marked are not comparable with their column.')
    return found, notes


def _differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """Return both values of the fields in which two protocols differ."""
    fields = [key for key in one | other if one.get(key) != other.get(key)]
    return '; '.join(f'{key}: {one.get(key)!r:.40} | {other.get(key)!r:.40}' for key in fields[:8])
