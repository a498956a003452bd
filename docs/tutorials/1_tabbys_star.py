"""
Tabby's star
============

Trial text.
"""
# %%
# Then a figure.
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt

from kpsf import extract_light_curve, simulate_tpf
from kpsf.plotting import plot_light_curve

plt.style.use('kpsf.plotting.style')
folder = TemporaryDirectory()
light_curve = extract_light_curve(simulate_tpf(f'{folder.name}/star.fits', n_cadences=20, seed=1))
ax = plot_light_curve(light_curve)
