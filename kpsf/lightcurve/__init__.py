# Licensed under a 3-clause BSD style license - see LICENSE
"""Light curves: `extract_light_curve` from target pixels, and their table, `LightCurve`.

`SceneLightCurves` holds those of stars that were fitted together.
"""

from .blends import SceneLightCurves
from .extract import extract_light_curve
from .series import LightCurve, point_to_point_scatter

__all__ = ['LightCurve', 'SceneLightCurves', 'extract_light_curve', 'point_to_point_scatter']
