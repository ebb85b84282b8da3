"""Whatever a file or an option holds: a right answer or one clear error, and nothing beside it.

IBNSEG_EXAMPLES: inputs a test; without it a few dozen, the same each time. `make test-stress`.
"""

import copy
import io
import json
import os
import shutil
import string
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from ibnseg_tools import weights as weights_tool
from PIL import Image
from processes import ROOT, run
from test_matrices import example as record_example
from test_odd_contents import content

import ibnseg
from ibnseg import disk, domains, ending, labels, packages, report, weights
from ibnseg.domains import files as label_files
from ibnseg.domains import own
from ibnseg.export import mapping
from ibnseg.measure import predictions, records
from ibnseg.packages import files as package_files
from ibnseg.report import sheet
from ibnseg.train import keys, parts
from ibnseg.train.config import load_config, parse_options

EXAMPLES = int(os.environ.get('IBNSEG_EXAMPLES', 0))
tried = settings(
    max_examples=EXAMPLES or 40,
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
MINI = ROOT / 'configs/miniature/ibn_b.py'
SPACES = sorted({row.space for row in domains.DOMAINS.values()})

# ------------------------------------------------------------------------ what is drawn

plain = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20),
    st.sampled_from([10**30, -1, '', '..', '/etc/passwd', '\x1b[31m', '{{$HOME:}}', 'x' * 5000]),
)  # fmt: skip
trees = st.recursive(
    plain,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)


def places(value, at=()):
    """Where the values of a tree stand."""
    yield at
    items = value.items() if isinstance(value, dict) else ()
    items = enumerate(value) if isinstance(value, list) else items
    for key, one in items:
        yield from places(one, (*at, key))


def changed(value, at, new, drop=False):
    """A copy of a tree with another value at a place, or without it."""
    if not at:
        return new
    value = copy.deepcopy(value)
    inner = value
    for key in at[:-1]:
        inner = inner[key]
    if drop and isinstance(inner, dict):
        del inner[at[-1]]
    else:
        inner[at[-1]] = new
    return value


@st.composite
def spoilt(draw, tree):
    """A tree with one to three values changed, by another value or one of its own."""
    for _ in range(draw(st.integers(1, 3))):
        every = list(places(tree))
        at = every[draw(st.integers(0, len(every) - 1))]
        own_value = tree
        for key in every[draw(st.integers(0, len(every) - 1))]:
            own_value = own_value[key]
        new = draw(st.one_of(trees, st.just(own_value)))
        tree = changed(tree, at, new, drop=draw(st.booleans()))
    return tree


@st.composite
def damaged(draw, data):
    """Bytes with a few changed, cut, doubled or put in."""
    data = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        kind = draw(st.sampled_from(['flip', 'cut', 'in', 'twice', 'zeros']))
        if kind == 'flip' and data:
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == 'cut':
            del data[at:]
        elif kind == 'in':
            data[at:at] = draw(st.binary(max_size=16))
        elif kind == 'twice':
            data += data[at:]
        else:
            data[at : at + 8] = bytes(8)
    return bytes(data)


@st.composite
def pictures(draw):
    """(bytes, what was drawn or None where the bytes are damaged) of small pictures."""
    mode = draw(
        st.sampled_from(['L', 'L', 'P', 'RGB', 'RGBA', 'LA', 'I;16', '1', 'I', 'F', 'CMYK'])
    )
    kind = draw(st.sampled_from(['PNG', 'PNG', 'PNG', 'TIFF', 'JPEG', 'GIF', 'BMP', 'WEBP']))
    size = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    few = draw(st.sampled_from([2, 19, 35, 256]))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    drawn = rng.integers(0, few, size, dtype=np.uint8)
    image = Image.fromarray(drawn)
    if mode == 'P':
        image.putpalette(rng.integers(0, 256, 768, dtype=np.uint8).tobytes())
    elif mode == 'I;16':
        image = Image.fromarray(drawn.astype(np.uint16) * 257)
    out = io.BytesIO()
    try:
        (image if mode in ('L', 'P', 'I;16') else image.convert(mode)).save(out, kind)
    except (OSError, ValueError):  # not of this mode
        image.convert('L').save(out := io.BytesIO(), 'PNG')
        mode, kind = 'L', 'PNG'
        drawn = np.asarray(image.convert('L'))
    data = out.getvalue()
    if draw(st.booleans()):
        return draw(damaged(data)), None
    return data, drawn if (mode, kind) == ('L', 'PNG') else None


# ------------------------------------------------------------------------ the judge


def clear(error, path=None):
    """Raise AssertionError for an error that does not tell a person what to do."""
    said = ending.describe(error)
    assert 'fault of ibnseg' not in said and 'For more see the trace' not in said, said
    assert 0 < len(said) < 3000, said[:300]
    if path is not None:
        assert str(path) in said, f'names no file: {said}'


def answer(read, path):
    """What `read` makes of a file; None for one clear error. Nothing beside the file changes."""
    before = sorted(path.parent.iterdir())
    held = path.read_bytes()
    try:
        return read(path)
    except Exception as error:
        clear(error, path)
        return None
    finally:
        assert sorted(path.parent.iterdir()) == before
        assert path.read_bytes() == held


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('fuzz')


def put(folder, name, data):
    place = folder / name.replace('.', '_')
    place.mkdir(exist_ok=True)
    path = place / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode('utf-8', 'surrogatepass'))
    return path


# ------------------------------------------------------------------------ the files


@tried
@given(picture=pictures(), space=st.sampled_from(SPACES))
def test_a_label(folder, picture, space):
    data, drawn = picture
    path = put(folder, 'label.png', data)
    raw = answer(lambda path: label_files.read_raw(path, space), path)
    found = answer(lambda path: domains.read_labels(path, space), path)
    assert (raw is None) == (found is None)
    if found is None:
        return
    classes = len(labels.space(space).task.classes) if hasattr(labels.space(space), 'task') else 255
    assert found.dtype == np.uint8 and found.ndim == 2 and found.size
    assert set(np.unique(found)) <= {*range(classes), labels.IGNORE}
    if drawn is not None and raw.shape == drawn.shape and (raw == drawn).all():
        np.testing.assert_array_equal(found, labels.lut(space)[drawn])


@tried
@given(picture=pictures())
def test_a_prediction(folder, picture):
    data, drawn = picture
    path = put(folder, 'prediction.png', data)
    found = answer(predictions.read_prediction, path)
    if drawn is not None:
        np.testing.assert_array_equal(found, drawn)


_RECORD = {}


def record_tree(folder):
    if not _RECORD:
        path = records.write(record_example()[0], folder / 'whole.record.json')
        _RECORD.update(json.loads(path.read_text()))
    return dict(_RECORD)


@tried
@given(data=st.data())
def test_a_record(folder, data):
    tree = data.draw(spoilt(record_tree(folder)))
    text = json.dumps(tree)
    if data.draw(st.booleans()):
        text = data.draw(damaged(text.encode()))
    path = put(folder, 'a.record.json', text)
    found = answer(records.read, path)
    if found is None:
        return
    try:
        texts = report.texts(report.tabulate([found]))
    except Exception as error:
        clear(error)
    else:
        assert not any('\x1b' in text for text in texts.values())


_DOMAIN = dict(
    name='mine', photos='photos/{split}/*.png', labels='labels/{split}/{name}.png',
    splits=['train', 'val'], space='cityscapes', default='val',
)  # fmt: skip


@tried
@given(data=st.data())
def test_a_domain_file(folder, data):
    tree = data.draw(spoilt(_DOMAIN))
    text = data.draw(
        st.sampled_from([yaml.safe_dump(tree, allow_unicode=True), json.dumps(tree)])
        | damaged(yaml.safe_dump(_DOMAIN).encode())
    )
    before = dict(own.DOMAINS), dict(own.FILES)
    try:
        answer(own.read, put(folder, 'mine.yaml', text))
    finally:
        for kept, held in zip((own.DOMAINS, own.FILES), before, strict=True):
            kept.clear()
            kept.update(held)


_MAP = dict(classes={'road': 'road', 3: 'car'}, mean=[1.0, 2.0, 3.0], std=[1.0, 1.0, 1.0],
            order='rgb', multiple=32, photo=[64, 32], keep_ratio=True)  # fmt: skip


@tried
@given(data=st.data())
def test_a_class_map(folder, data):
    tree = data.draw(spoilt(_MAP))
    text = data.draw(
        st.sampled_from([yaml.safe_dump(tree, allow_unicode=True)])
        | damaged(yaml.safe_dump(_MAP).encode())
    )
    path = put(folder, 'map.yaml', text)
    found = answer(mapping.read, path)
    if found is None:
        return
    wanted = ['road', 'car', 'sky']
    try:
        outputs, _ = mapping.resolve(found.get('classes'), ['road', 'tree', 'sky', 'van'], wanted)
    except Exception as error:
        clear(error)
    else:
        assert len(outputs) == 3 and all(0 <= i < 4 for one in outputs for i in one)


_SHEET = 'model,seed,cityscapes,bdd100k,average\na,0,50.1,40,45.05\nb,0,51,41,46\n'


@tried
@given(text=st.text(max_size=80) | damaged(_SHEET.encode()) | st.just(_SHEET))
def test_a_table_of_numbers(folder, text):
    found = answer(sheet.read, put(folder, 'sheet.csv', text))
    assert text != _SHEET or len(found.lines) == 2


_SKIP = 'gta5/images/00001.png  # ids\ngta5/images/00002.png  # size\n'


@tried
@given(text=st.text(max_size=80) | damaged(_SKIP.encode()))
def test_a_skip_list(folder, text):
    path = put(folder, 'skip.txt', text)
    found = answer(lambda path: domains.skip.read([path], domains.DOMAINS), path)
    for names in (found or {}).values():
        assert not any(Path(name).is_absolute() or '..' in Path(name).parts for name in names)


def checkpoint_bytes(tree, safetensors=False):
    out = io.BytesIO()
    if safetensors:
        from safetensors.torch import save

        return save(tree['state_dict'])
    torch.save(tree, out)
    return out.getvalue()


def inspected(path, capsys):
    try:
        assert weights_tool.main(['inspect', str(path)]) in (0, 1, 2)
    finally:
        said = capsys.readouterr()
    assert 'Traceback' not in said.err and 'fault of ibnseg' not in said.err, said.err
    assert '\x1b' not in said.out + said.err


@tried
@given(data=st.data())
def test_weights(folder, data, capsys):
    end = data.draw(st.sampled_from(['pth', 'safetensors']))
    if end == 'pth' and data.draw(st.booleans()):
        whole = checkpoint_bytes(data.draw(spoilt(content())))
    else:
        whole = data.draw(damaged(checkpoint_bytes(content(), end == 'safetensors')))
    path = put(folder, f'x.{end}', whole)
    found = answer(weights.read, path)
    assert found is None or isinstance(found, dict)
    inspected(path, capsys)


# ------------------------------------------------------------------------ options and packages

_KEYS = [
    *('model.backbone.placement', 'model.backbone.depth', 'model.decode_head.num_classes'),
    *('model.decode_head.loss_decode.class_weight', 'model.backbone.norm_cfg', 'model.backbone'),
    *('optim_wrapper.optimizer.lr', 'optim_wrapper.type', 'param_scheduler', 'param_scheduler.0'),
    *('train_dataloader.batch_size', 'train_dataloader.dataset.domain', 'val_dataloader'),
    *('train_dataloader.dataset.pipeline.2.scale', 'custom_hooks', 'default_hooks', 'source'),
    *('test_dataloader.dataset.domains', 'protocol', 'select', 'randomness.seed', 'env_cfg'),
    *('train_cfg.max_iters', 'train_cfg', 'model_name', 'work_dir', 'load_from', 'visualizer'),
    *('test_cfg', 'val_evaluator', 'log_level', 'custom_imports', 'domain_files', 'mixing'),
    *('model.data_preprocessor.mean', 'model.test_cfg.mode', 'method', 'class_set', 'odd_pairs'),
]
values = st.one_of(
    st.sampled_from(['None', 'True', '[]', '{}', '[[', '(1,', '1e400', '-1', '0', '[1,2', 'x', '']),
    st.sampled_from(['a.b=c', '{"a": 1}', "dict(type='x')", '[None]', '1,2,3', '"x', '../../x']),
    st.integers().map(str),
    st.floats().map(str),
    st.text(string.printable, max_size=30),
)


@tried
@example(key='', value='None')
@example(key='param_scheduler.0', value='None')
@example(key='param_scheduler', value='True')
@example(key='model.backbone.placement', value='(1,')
@example(key='val_dataloader', value='True')
@example(key='domain_files', value='True')
@example(key='domain_files', value='x')
@given(
    key=st.sampled_from(_KEYS) | st.text(string.ascii_letters + '._0', max_size=12),
    value=values,
)
def test_an_option(folder, key, value):
    before = sorted(folder.rglob('*')), dict(own.DOMAINS)
    try:
        options = parse_options([f'{key}={value}'])
        config = load_config(MINI, options=options)
        parts.check(config)
    except Exception as error:
        clear(error)
    assert (sorted(folder.rglob('*')), dict(own.DOMAINS)) == before


@pytest.mark.parametrize('value', ['True', 'x', '[1]'])
def test_every_part_of_a_config_as_something_else(value):
    for key in dict.fromkeys([*_KEYS, *sorted(keys.RUNNER | keys.OURS)]):
        try:
            parts.check(load_config(MINI, options=parse_options([f'{key}={value}'])))
        except Exception as error:
            clear(error)


@pytest.fixture(scope='module')
def package(folder):
    """A package without a training: the miniature network as it is built."""
    from mmengine.registry import DefaultScope
    from mmseg.registry import MODELS
    from safetensors.torch import save_file

    import ibnseg.registered  # noqa: F401

    place = folder / 'package'
    place.mkdir()
    config = load_config(MINI)
    with DefaultScope.overwrite_default_scope('mmseg'):
        network = MODELS.build(config.model)
    save_file({k: v.clone() for k, v in network.state_dict().items()}, place / 'model.safetensors')
    said = json.loads(json.dumps(config.to_dict()))
    for key in ('custom_imports', 'load_from'):
        said.pop(key, None)
    said = without(said, ('init_cfg', 'pretrained'))
    (place / 'config.json').write_text(json.dumps(said))
    seal(place, dict(schema=package_files.SCHEMA, model='m', records=[], meta={}, classes=['a']))
    packages.read(place)
    return place


def without(value, keys):
    if isinstance(value, dict):
        return {k: without(v, keys) for k, v in value.items() if k not in keys}
    return [without(v, keys) for v in value] if isinstance(value, list) else value


def seal(place, manifest):
    names = ('config.json', 'model.safetensors')
    hashes = {name: package_files.disk.sha256(place / name) for name in names}
    manifest = dict(manifest, files=manifest.get('files', hashes))
    (place / 'package.json').write_bytes(package_files.sealed(manifest))


@tried
@given(data=st.data())
def test_a_package(folder, package, data):
    """Of a stranger, whose hashes fit: its config, its manifest, its network."""
    place = folder / 'spoilt'
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(package, place)
    what = data.draw(st.sampled_from(['config', 'model', 'manifest', 'bytes']))
    manifest = json.loads((place / 'package.json').read_text())
    del manifest['sha256'], manifest['files']
    config = json.loads((place / 'config.json').read_text())
    if what == 'config':
        config = data.draw(spoilt(config))
    elif what == 'model':
        config['model'] = data.draw(spoilt(config['model']))
    (place / 'config.json').write_text(json.dumps(config))
    if what == 'manifest':
        seal(place, manifest)
        manifest = json.loads((place / 'package.json').read_text())
        del manifest['sha256']
        manifest = data.draw(spoilt(manifest))
        manifest = manifest if isinstance(manifest, dict) else dict(x=manifest)
        (place / 'package.json').write_bytes(package_files.sealed(manifest))
    else:
        seal(place, manifest)
    if what == 'bytes':
        (place / 'package.json').write_bytes(
            data.draw(damaged((place / 'package.json').read_bytes()))
        )
    before = sorted(folder.rglob('*'))
    for read in (packages.verify, packages.read, ibnseg.load):
        try:
            read(place)
        except Exception as error:
            clear(error, place if read is not ibnseg.load else None)
    assert sorted(folder.rglob('*')) == before


#: Found by the test above: what is changed in (the manifest, the config).
FOUND = {
    'no files': (('files',), ...),
    'files None': (('files',), None),
    'a mean of six': (('model', 'data_preprocessor', 'mean'), [1.0] * 6),
    'a mean of True': (('model', 'data_preprocessor', 'mean'), True),
    'no std': (('model', 'data_preprocessor', 'std'), None),
    'a layer that learns maybe': (('model', 'backbone', 'norm_cfg', 'requires_grad'), 'x'),
    'a network in its place': (('model', 'data_preprocessor'), dict(type='SegDataPreProcessor',
                                                                   data_preprocessor={})),
    'no backbone': (('model', 'backbone'), ...),
}  # fmt: skip


@pytest.mark.parametrize('kind', FOUND)
def test_what_was_found_in_packages(folder, package, kind):
    place = folder / 'found'
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(package, place)
    at, value = FOUND[kind]
    name = 'package.json' if at == ('files',) else 'config.json'
    tree = json.loads((place / name).read_text())
    tree = changed(tree, at, value, drop=value is ...)
    if name == 'package.json':
        del tree['sha256']
        (place / name).write_bytes(package_files.sealed(tree))
    else:
        (place / name).write_text(json.dumps(tree))
        manifest = json.loads((place / 'package.json').read_text())
        seal(place, {k: v for k, v in manifest.items() if k not in ('sha256', 'files')})
    with pytest.raises(ValueError) as error:
        ibnseg.load(place)
    clear(error.value, name)


# ------------------------------------------------------------------------ as real processes


def hostile(folder):
    """Files of strangers by kind, each spoilt."""
    record = changed(record_tree(folder), ('domains', 0, 'matrix'), [[-1]])
    return dict(
        record=put(folder, 'b.record.json', json.dumps(record)),
        checkpoint=put(folder, 'b.pth', checkpoint_bytes(content())[:-40]),
        sheet=put(folder, 'b.csv', 'model,model\n\x1b[31m,1\n'),
        domain=put(folder, 'b.yaml', 'name: !!python/object/apply:os.system [exit 3]\n'),
        photo=put(folder, 'b.png', b'\x89PNG\r\n\x1a\n' + bytes(40)),
        manifest=put(folder, 'package.json', '{"schema": 1}'),
        skip=put(folder, 'skip.txt', 'gta5/../../etc/passwd\n'),
        config=put(folder, 'b.json', '{"model": [}'),
        map=put(folder, 'map.yaml', '[1, 2'),
    )


#: One a command: its words, of which those in braces are such files.
COMMANDS = [
    'report {record} --out {folder}/report', 'check-claim {sheet}', 'weights inspect {checkpoint}',
    'weights convert {checkpoint} {folder}/y.safetensors', 'verify {package} --data-root {folder}',
    'predict {package} {photo} --out {folder}/out',
    'predict {mini} {checkpoint} {photo} --out {folder}/out',
    'test {mini} {checkpoint} --data-root {folder}', 'train {config}',
    'train {mini} --domain-file {domain}', 'train {mini} --data-root {folder} --skip-list {skip}',
    'train {mini} --cfg-options param_scheduler.0=None', 'train {mini} --cfg-options =1',
    'train {mini} --cfg-options "model.backbone.placement=(1,"',
    'test --model hf:{folder} --domains gta5:val --model-classes {map}', 'audit gta5 {folder}',
    'score gta5:val {folder} --data-root {folder}', 'gallery {record} --out {folder}/gallery',
    'package {folder}', 'export {mini} {checkpoint} --to onnx --out {folder}/x.onnx',
    'sweep {config} --work-dir {folder}/sweep', 'finetune {mini} {checkpoint} --target gta5',
    'run train {config}', 'analyze corruptions {folder} --data-root {folder}',
    'domain new {folder}', 'picture {record}', 'browse gta5 --data-root {folder}',
]  # fmt: skip


@pytest.mark.parametrize('words', COMMANDS)
def test_a_command_as_a_process(tmp_path, words):
    files = hostile(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob('*') if path.is_file()}
    named = dict(files, folder=tmp_path, mini=MINI, package=files['manifest'].parent)
    words = [word.strip('"') for word in words.format(**named).split()]
    done = run('-m', 'ibnseg', *words, cwd=tmp_path, code=None)
    assert done.returncode in (1, 2), done
    print(words, done.stderr)
    assert done.stderr and 'Traceback' not in done.stderr + done.stdout, done.stderr
    assert 'fault of ibnseg' not in done.stderr and 'For more see' not in done.stderr, done.stderr
    assert '\x1b' not in done.stderr + done.stdout
    after = {path: path.read_bytes() for path in tmp_path.rglob('*') if path.is_file()}
    assert all(after[path] == data for path, data in before.items())
    left = [p for p in after.keys() - before.keys() if p.name != disk.RUNNING]  # a claim, empty
    assert all('work_dirs' in path.parts for path in left), left
