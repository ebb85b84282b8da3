"""The same matrices over other classes: 19, 16, 13, or those that the truth holds."""

from dataclasses import replace

import numpy as np

from .. import labels
from ..measure import protocols
from ..measure.records import Measurement, Record

CHOICES = (*protocols.CLASS_SETS, 'present')


def recount(record: Record, classes: str) -> Record:
    """Return the record over another class set; its protocols say so, so they have other hashes.

    Args:
        classes: of `protocols.CLASS_SETS`, or 'present': those with a pixel in the truth. So the
            denominator does not depend on what a model predicts.

    Raises ValueError: unknown class set, or a measurement of no known label space.
    """
    return replace(record, domains=[_measurement(m, classes) for m in record.domains])


def _measurement(measured: Measurement, classes: str) -> Measurement:
    space = measured.protocol.get('space')
    if space not in labels.SPACES:
        raise ValueError(
            f'{measured.domain}: label space {space!r:.40} is unknown, so is which of its classes '
            'are in a class set; leave --classes away'
        )
    if classes == 'present':
        ids = [int(i) for i in np.flatnonzero(measured.matrix.sum(1))]
    else:
        ids = list(protocols.class_set(space, classes))
    protocol = measured.protocol | dict(classes=ids)
    return replace(measured, protocol=protocol, protocol_hash=protocols.protocol_hash(protocol))
