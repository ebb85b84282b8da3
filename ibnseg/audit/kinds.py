"""The kinds of damage: one row each."""

from typing import NamedTuple


class Kind(NamedTuple):
    """`severity` is 'error' (breaks or falsifies training or measurement) or 'warning'."""

    severity: str
    meaning: str
    way_out: str


_AGAIN = 'unpack or download it again'
_ORIGINAL = "use the dataset's original label file, not one converted for another tool"
_LEAVE_OUT = 'leave it out with --skip-list'

KINDS: dict[str, Kind] = {
    # of the set
    'absent': Kind('warning', 'split whose folder is not there', 'fine if you do not use it'),
    'count': Kind('warning', 'not the published number of pairs', 'look for parts not unpacked'),
    'resized': Kind('warning', 'photos in another than the published size',
                    'numbers measured on it compare with no published ones'),
    'foreign': Kind('warning', 'file among the photos or labels that no split has',
                    'move it elsewhere, or give it the name that is expected'),
    'no-pixels': Kind('warning', 'class of a domain file that no label has a pixel of',
                      'see whether its ids are right'),
    # of the pairing
    'photo-alone': Kind('error', 'photo without a label file', 'unpack the labels again'),
    'label-alone': Kind('error', 'label file without a photo', 'unpack the photos again'),
    'misnamed': Kind('error', 'pair under names that the layout does not have',
                     'name both files as expected'),
    'same-name': Kind('error', 'two files for one place in a split', 'move one elsewhere'),
    'layout': Kind('error', 'split that can not be listed', 'see the message'),
    # of any file
    'unreadable': Kind('error', 'file that can not be opened', 'see its rights, links and disk'),
    'empty': Kind('error', 'file of 0 bytes', _AGAIN),
    'wrong-type': Kind('error', 'file of another sort than its place needs', _AGAIN),
    'damaged': Kind('error', 'file that does not decode to its end', _AGAIN),
    'orientation': Kind('error', 'EXIF tag that turns, or may turn, one of photo and label only',
                        'turn the pixels and drop the tag, or take the original file'),
    # of a photo
    'constant': Kind('error', 'photo of one colour', _LEAVE_OUT),
    'grey': Kind('warning', 'photo without colour', 'see whether a tool took the colour away'),
    'photo-form': Kind('warning', 'photo in another form than 8-bit RGB',
                       'it is read as 8-bit RGB; take the original file if it was converted'),
    'depth': Kind('error', 'photo whose values can not be scaled to 8 bits',
                  'take the original file'),
    'odd-size': Kind('warning', 'photo of another size than the others', 'take the original file'),
    # of a label
    'colour': Kind('error', 'colour rendering where label ids are expected', _ORIGINAL),
    'encoding': Kind('error', 'label file in another encoding than the dataset has', _ORIGINAL),
    'lossy': Kind('error', 'label file compressed with loss (JPEG): its ids are not exact',
                  _ORIGINAL),
    'palette': Kind('error', 'label whose palette contradicts the published colours of its ids',
                    _ORIGINAL),
    'ids': Kind('error', 'label with ids that its label space does not have', _ORIGINAL),
    'train-ids': Kind('error', 'label that seems to hold training classes in place of raw ids',
                      _ORIGINAL),
    'all-ignored': Kind('error', 'label without one pixel of a class', _LEAVE_OUT),
    'single-class': Kind('warning', 'label of one class only', 'look at it'),
    # of a pair
    'size': Kind('error', 'label of another size than its photo', _LEAVE_OUT),
    'rotated': Kind('error', 'label turned by a quarter against its photo',
                    'take the original files of both'),
    'same-file': Kind('error', 'label that is a copy of its photo', 'unpack the labels again'),
    'swapped': Kind('error', "photo and label in one another's place", 'exchange the two files'),
    # between pairs
    'leak': Kind('error', 'one photo in two splits that should share none',
                 'leave one out with --skip-list'),
    'duplicate': Kind('warning', 'one photo twice in a split', 'see which name is right'),
    'same-label': Kind('warning', 'one label for two photos', 'see which photo it belongs to'),
}  # fmt: skip
