# Licensed under a 3-clause BSD style license - see LICENSE
"""What sets the missions apart: names, keywords, times and quality bits of their files."""

from dataclasses import dataclass

__all__ = ['MISSIONS', 'Mission', 'reference_date']


@dataclass(frozen=True)
class Mission:
    """One mission, as the headers of its target pixel files tell of it.

    Attributes
    ----------
    name : str
        What `TargetPixels.mission` says.
    catalogue : str
        Prefix of the numbers of its targets.
    id_key, magnitude_key : str
        Keywords of the number and of the magnitude of a target.
    frames_key : str
        Keyword of the number of frames whose electrons a cadence holds.
    reference_date : float
        Julian date that times are counted from.
    time_unit : str
        What the files say of the unit of these times.
    quality_masks : dict of str to int
        Quality bits that the field's names stand for.
    """

    name: str
    catalogue: str
    id_key: str
    magnitude_key: str
    frames_key: str
    reference_date: float
    time_unit: str
    quality_masks: dict


# Kepler Archive Manual table 2-3 and TESS Science Data Products Description table 28, in the
# selections that the field uses under these names (lightkurve's): 'default' drops what is
# certainly useless, 'hard' also what is suspect, 'hardest' any flagged cadence.
_KEPLER_DEFAULT = 1 | 2 | 4 | 8 | 32 | 256 | 1 << 14 | 1 << 16 | 1 << 20
_KEPLER_QUALITY = {'none': 0, 'default': _KEPLER_DEFAULT,
                   'hard': _KEPLER_DEFAULT | 128 | 1 << 10 | 1 << 13 | 1 << 19,
                   'hardest': 2096639}
_TESS_DEFAULT = 1 | 2 | 4 | 8 | 16 | 32 | 128 | 512 | 1 << 14
_TESS_QUALITY = {'none': 0, 'default': _TESS_DEFAULT,
                 'hard': _TESS_DEFAULT | 64 | 1 << 10 | 1 << 11 | 1 << 12,
                 'hardest': 65535}

# TESS rejects cosmic rays on board by dropping the brightest and the faintest of every ten frames:
# NUM_FRM counts the dropped ones, NREADOUT does not.
MISSIONS = {mission.name: mission for mission in (
    Mission('Kepler', 'KIC', 'KEPLERID', 'KEPMAG', 'NUM_FRM', 2454833.0, 'BJD - 2454833',
            _KEPLER_QUALITY),
    Mission('K2', 'EPIC', 'KEPLERID', 'KEPMAG', 'NUM_FRM', 2454833.0, 'BJD - 2454833',
            _KEPLER_QUALITY),
    Mission('TESS', 'TIC', 'TICID', 'TESSMAG', 'NREADOUT', 2457000.0, 'BJD - 2457000, days',
            _TESS_QUALITY),
)}


def reference_date(mission):
    """Return the Julian date that a mission counts from, 0 for none that is known."""
    return MISSIONS[mission].reference_date if mission in MISSIONS else 0.0
