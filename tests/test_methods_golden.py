"""Methods give what their released code gave, file by file.

IBNSEG_GOLDEN=FOLDER names another folder of the same form; `pytest -rs` lists what nothing covers.
"""

import os
from pathlib import Path

import cv2
import golden_methods
import numpy as np
import pytest
import torch
from conftest import SHARED
from golden_files import Golden

FOLDER = Path(os.environ.get('IBNSEG_GOLDEN', SHARED / 'golden' / 'methods'))
FILES = sorted(FOLDER.glob('*.json'))


def test_the_folder_is_there():
    if 'IBNSEG_GOLDEN' not in os.environ and not FOLDER.exists():
        pytest.skip(f'{FOLDER} is absent: nothing to compare with')
    assert FILES, f'{FOLDER} holds no *.json'


def test_no_reason_is_left_of_what_is_covered():
    names = {path.stem for path in FILES}
    stale = [name for name in names if golden_methods.builder(name) and name in
             golden_methods.UNCOVERED]  # fmt: skip
    assert not stale


@pytest.mark.parametrize('dtype', [torch.float64, torch.float32], ids=['float64', 'float32'])
@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_our_values_are_those_of_the_release(path, dtype):
    build = golden_methods.builder(path.stem)
    if build is None:
        pytest.skip(f'{path.name}: {golden_methods.why_not(path.stem)}')
    golden = Golden(path, dtype)
    found = build(golden)
    key = golden_methods.covered_by(path.stem)
    reasons = {
        name: why for (of, name), why in golden_methods.UNCOVERED_OUTPUTS.items() if of == key
    }
    left_out = set(golden.outputs) - set(found) - set(reasons)
    assert not left_out, f'{path.name}: nothing gives {left_out}'
    for name, expected in golden.outputs.items():
        if name in reasons:
            continue
        ours = found[name]
        ours = ours.detach().numpy() if isinstance(ours, torch.Tensor) else np.asarray(ours)
        assert ours.shape == expected.shape, name
        if ours.dtype == np.uint8 and cv2.__version__ != '5.0.0':  # versions differ by a level
            assert np.abs(ours.astype(int) - expected).max() <= 1
            continue
        if not np.issubdtype(ours.dtype, np.floating):
            np.testing.assert_array_equal(ours, expected, err_msg=name)
            continue
        assert ours.dtype == np.float64 or dtype == torch.float32, name
        within = (1e-9 if dtype == torch.float64 else 1e-4) * np.abs(expected).max()
        np.testing.assert_allclose(ours, expected, rtol=0, atol=within, err_msg=name)
