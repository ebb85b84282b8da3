"""What surfaces are made of: the colours each may have and how rough it is."""

from typing import NamedTuple


class Material(NamedTuple):
    """Colours an object may be painted in (display RGB, 0..255) and how rough the surface is."""

    colours: tuple[tuple[int, int, int], ...]
    rough: float = 0.0


MATERIALS = {
    'sky': Material(((140, 180, 230),)),
    'asphalt': Material(((98, 97, 98), (108, 106, 104), (88, 88, 92)), 0.22),
    'marking': Material(((225, 225, 220),), 0.12),
    'paving': Material(((160, 150, 142), (150, 146, 140), (168, 152, 140)), 0.25),
    'curb': Material(((178, 174, 168),), 0.1),
    'cobble': Material(((122, 116, 110), (112, 106, 102)), 0.4),
    'rail': Material(((80, 76, 74),), 0.1),
    'grass': Material(((104, 140, 58), (118, 142, 66), (132, 136, 74)), 0.4),
    'leaf': Material(((66, 104, 40), (78, 112, 44), (58, 98, 48), (92, 116, 50)), 0.65),
    'bark': Material(((88, 74, 58), (98, 86, 72)), 0.4),
    'facade': Material(
        ((196, 178, 146), (206, 200, 188), (164, 104, 82), (180, 156, 122),
         (150, 146, 142), (190, 146, 112), (176, 176, 164), (138, 112, 96)), 0.16,
    ),
    'roof': Material(((128, 72, 56), (92, 84, 82), (112, 88, 76)), 0.3),
    'window': Material(((58, 68, 80), (72, 82, 92), (46, 54, 62)), 0.15),
    'frame': Material(((222, 218, 210), (120, 108, 98)), 0.05),
    'shop': Material(((150, 50, 44), (52, 84, 120), (60, 104, 78), (196, 160, 70)), 0.1),
    'wall': Material(((150, 144, 134), (140, 118, 104), (126, 124, 122)), 0.45),
    'fence': Material(((104, 86, 66), (84, 92, 84), (120, 116, 110)), 0.3),
    'steel': Material(((118, 120, 122), (94, 98, 100), (132, 130, 124)), 0.08),
    'black': Material(((30, 30, 32),)),
    'tyre': Material(((34, 34, 36),), 0.05),
    'chrome': Material(((150, 152, 156),)),
    'red lamp': Material(((214, 34, 28),)),
    'amber lamp': Material(((240, 160, 40),)),
    'green lamp': Material(((50, 210, 120),)),
    'white lamp': Material(((244, 242, 228),)),
    'dark lamp': Material(((58, 52, 50),)),
    'plate': Material(((226, 226, 218),)),
    'sign red': Material(((204, 36, 38),)),
    'sign blue': Material(((32, 84, 176),)),
    'sign yellow': Material(((240, 196, 36),)),
    'sign white': Material(((236, 236, 232),)),
    'car': Material(
        ((34, 35, 38), (216, 217, 218), (152, 155, 160), (92, 96, 102),
         (152, 30, 32), (38, 62, 116), (54, 76, 66), (178, 150, 96)), 0.03,
    ),
    'lorry': Material(((232, 230, 224), (210, 176, 60), (70, 96, 140), (172, 66, 52)), 0.06),
    'bus': Material(((214, 160, 34), (196, 44, 40), (224, 222, 214), (40, 110, 120)), 0.03),
    'tram': Material(((176, 32, 40), (232, 204, 70), (62, 128, 92), (206, 208, 206)), 0.03),
    'glass': Material(((44, 52, 60), (58, 66, 74)), 0.05),
    'skin': Material(((206, 160, 132), (150, 106, 80), (98, 68, 52))),
    'hair': Material(((46, 36, 30), (92, 66, 42), (150, 130, 100))),
    'coat': Material(
        ((44, 46, 54), (70, 76, 96), (150, 48, 48), (188, 182, 172),
         (88, 94, 74), (176, 130, 76), (60, 98, 140)), 0.12,
    ),
    'trousers': Material(((42, 44, 56), (62, 72, 98), (92, 82, 70), (40, 40, 40)), 0.12),
    'bin': Material(((70, 78, 72), (90, 84, 80), (60, 72, 96)), 0.1),
    'bonnet': Material(((40, 42, 46), (120, 122, 126), (70, 74, 82)), 0.02),
}  # fmt: skip
