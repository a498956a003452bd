"""
Kepler's and TESS's own PRF
===========================

Both missions published what a star looks like on their pixels. With that, no shape has to be
fitted to a target pixel file.

What is in these files, what lies between the places for which they were made, and how well do they
fit a real star? You will have learnt how to make a model from them and to fit pixels with it, the
trap that Kepler's files hold, and what to expect: a PRF that is right to some per cent, but not to
the noise.

The tutorial runs without a network and without the archive's files, which it simulates. Where the
environment variable ``KPSF_DATA`` names a folder that has real ones, it takes those.
"""

# %%
# The files
# ---------
#
# What is published is the *pixel response function*, PRF: the PSF of the optics, smeared by the
# motion of the spacecraft, and integrated over a pixel. It is an image, sampled many times per
# pixel, of the share of a star's flux that a pixel gets, by where the pixel lies from the star
# (Bryson et al. 2010, ApJ, 713, L97).
#
# =============== =============================== =======================================
# ..              Kepler and K2                   TESS
# =============== =============================== =======================================
# one file for    a channel                       a place on a CCD
# its name        ``kplr07.4_2011265_prf.fits``   ``tess2018243163601-prf-4-1-row0513-...``
# places          four corners, and the centre    a grid of 5 by 5
# pixels          11 by 11, or 15 by 15           13 by 13
# samples         50 per pixel                    9 per pixel
# sets            one                             sectors 1 to 3, and later ones
# =============== =============================== =======================================
#
# They are at the archive MAST. kpsf fetches those it needs when it needs them, or before, by
# ``kpsf fetch-prf FILE`` for a target pixel file (:doc:`/how_to/offline`).
#
# `~kpsf.simulate_kepler_prf` and `~kpsf.simulate_tess_prf` write files of the same names and
# layout without it. What a star looks like in them is up to us: here it has a narrow core, and a
# halo that is farther off centre the farther the star is from the middle of the detector.
import os
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import numpy as np

from kpsf import EllipticalGaussianPRF, simulate_kepler_prf, simulate_tess_prf

# sphinx_gallery_thumbnail_number = 2
plt.style.use('kpsf.plotting.style')


def star_at(right, up):
    """The PRF at a place that is given in units of half the detector, from its middle."""
    core = EllipticalGaussianPRF.from_stddev(0.75, 0.0, 0.0, 0.62, 0.55, 0.4)
    halo = EllipticalGaussianPRF.from_stddev(0.25, 0.5 * right, 0.5 * up, 1.4, 1.0,
                                             np.arctan2(up, right))
    return core + halo


temporary = TemporaryDirectory()
folder = Path(temporary.name)
if 'KPSF_DATA' in os.environ:
    data = Path(os.environ['KPSF_DATA'])
    kepler_file = data / 'kepler_prf' / 'kplr07.4_2011265_prf.fits'
    tess_folder = data / 'tess_prf' / 'start_s0001' / 'cam4_ccd1'
else:
    kepler_file = simulate_kepler_prf(
        folder / 'kplr07.4_2011265_prf.fits',
        lambda column, row: star_at((column - 562) / 550, (row - 532) / 512), channel=20)
    tess_folder = folder / 'start_s0001' / 'cam4_ccd1'
    simulate_tess_prf(
        tess_folder, lambda column, row: star_at((column - 1068) / 1024, (row - 1024) / 1024),
        camera=4, ccd=1, sector=1)

# %%
# A place on the detector
# -----------------------
#
# `~kpsf.KeplerPRF` is the PRF at a place on the detector. ``column`` and ``row`` choose the shape;
# where the star is among the pixels of an image is another matter.
from kpsf import KeplerPRF
from kpsf.plotting import plot_prf_positions

kepler_prf = KeplerPRF.from_file(kepler_file, column=300, row=700)
print(kepler_prf.detector, kepler_prf.shape, kepler_prf.spacing)
axes = plot_prf_positions(kepler_prf, plt.figure(figsize=(8.0, 7.0)))
plt.show()

# %%
# The five images of the file, as they lie on the detector. Three of them have a weight: the model
# is interpolated between these. Contours are at 50, 10, 1 and 0.1 per cent of the peak, and the
# scale keeps faint wings visible, in which the images differ most.
#
# For TESS, the 25 files of a CCD make one grid. `~kpsf.plotting.plot_prf` shows the image that
# comes out, and a map with the place (cross) and the weights of the positions:
from kpsf import TessPRF
from kpsf.plotting import plot_prf

tess_prf = TessPRF.from_files(tess_folder, column=300, row=400)
fig, axes = plt.subplots(1, 2, figsize=(8.0, 3.8))
plot_prf(tess_prf, axes)
plt.show()

# %%
# Towards the corner of the CCD, the wings of a star are pulled to one side.

# %%
# The trap: half a sample
# -----------------------
#
# Which sample is the star at? Kepler's images have 550 samples along each axis, so that none is in
# the middle, and the header says which it is: number 275, counted from 1.
from astropy.io import fits

header = fits.getheader(kepler_file, 5)
print(f'{header["NAXIS1"]} samples of {header["CDELT1P"]} pixels, '
      f'the star is at number {header["CRPIX1P"]:.0f}')

# %%
# Code that takes the middle, number 275.5, is half a sample off: every position that it fits is
# wrong by 0.01 pixel, 0.04 arcsec, which is much more than the noise of a bright star. To see it,
# draw a star at x = 5.2 and fit it with both. `~kpsf.fit_stamps` takes a stack of stamps, here of
# one:
from kpsf import TabulatedPRF, fit_stamps

y, x = np.mgrid[:11, :11]
kepler_prf.flux, kepler_prf.x_0, kepler_prf.y_0 = 1e6, 5.2, 4.9
stamp = kepler_prf(x, y) + 100.0
from_middle = TabulatedPRF(kepler_prf.data, spacing=0.02)
for name, model in (('header', kepler_prf), ('middle', from_middle)):
    fit = fit_stamps(stamp[np.newaxis], model).table[0]
    print(f'by the {name}: x = {fit["x_0_fit"]:.4f} +- {fit["x_0_err"]:.4f}')

# %%
# kpsf reads ``CRPIX1P`` and ``CRPIX2P`` of every image. TESS has 117 samples and the star in the
# middle of them: no trap there.

# %%
# Between the positions
# ---------------------
#
# Kepler's five positions span four triangles, in which kpsf interpolates linearly (barycentric
# weights, as NASA's pipeline does); TESS's grid is interpolated bilinearly. Some programs take the
# nearest image, or weight all five by inverse distance. What difference does it make? Move along a
# row of the detector, and count the share of the light that ends up in other pixels:
columns = np.linspace(12.0, 1111.0, 100)
calibration = kepler_prf.calibration
fig, ax = plt.subplots(figsize=(8.0, 3.2))
for name, color in (('nearest', 'C1'), ('inverse-distance', 'C2')):
    misplaced = [0.5 * calibration.spacing**2 * np.abs(
        calibration.image(column, 700.0, name) - calibration.image(column, 700.0)).sum()
        for column in columns]
    ax.plot(columns, 100 * np.array(misplaced), color=color, label=name)
ax.set(xlabel='Column on the detector (pixels), at row 700', ylim=(0.0, None),
       ylabel='Light in other pixels (%)')
ax.legend(loc='lower left')
plt.show()

# %%
# The nearest image is off by up to a few per cent, and jumps where another one becomes the
# nearest. Inverse distances never jump, but let the far side of the detector in.
# ``interpolate='nearest'`` is there for comparison with older work.

# %%
# A model like any other
# ----------------------
#
# A PRF is an astropy model with the parameters ``flux``, ``x_0``, ``y_0``, and, fixed unless they
# are freed, ``x_scale``, ``y_scale`` and ``theta`` for a change of focus or roll. ``flux`` is the
# total flux, wherever in a pixel the star is, because the pixels of every sub-pixel phase are made
# to sum to 1:
y, x = np.mgrid[:15, :15]
tess_prf.flux, tess_prf.y_0 = 1000.0, 7.0
for place in (7.0, 7.25, 7.5):
    tess_prf.x_0 = place
    image = tess_prf(x, y)
    print(f'star at x = {place}: brightest pixel {image.max():.0f}, all pixels {image.sum():.2f}')

# %%
# It can be used wherever a PSF is asked for: in photutils, in `~kpsf.PoissonPSFPhotometry`, in
# scenes of blended stars.

# %%
# A star of TESS
# --------------
#
# Pixels: TIC 25155310 of sector 1, or else a simulated star at the same place that does what real
# ones do: its focus is not that of the file, and there are other stars in the field.
from kpsf import extract_light_curve, read_tpf, simulate_tpf

if 'KPSF_DATA' in os.environ:
    tpf = read_tpf(data / 'tess' / 'tess25155310-s01-first-cadences.fits.gz')
else:
    truth = TessPRF.from_files(tess_folder, column=1624, row=393)
    truth.x_scale, truth.y_scale = 1.06, 1.03
    tpf = read_tpf(simulate_tpf(
        folder / 'tess.fits', truth, mission='TESS', n_cadences=5, column=1619, row=389, seed=1,
        stars=[(9500.0, 5.0, 4.4), (160.0, 9.1, 8.2), (90.0, 1.3, 7.6), (60.0, 8.6, 1.4)],
        header={'CAMERA': 4, 'CCD': 1, 'SECTOR': 1}))
print(tpf)

# %%
# ``psf='prf'`` takes the detector and the place on it from the pixels' header, and the files from
# the folders of ``conf.prf_path``, the cache, or the archive. Here the folder is set for this call
# alone; a line of ``kpsf.cfg`` sets it for good (:doc:`/user_guide/prf`). On the command line it
# is ``kpsf lightcurve FILE --psf prf``.
from kpsf import conf

with conf.set_temp('prf_path', [str(tess_folder)]):
    by_prf = extract_light_curve(tpf, psf='prf')

# %%
# To change the model before, make it yourself: `TessPRF.from_tpf <kpsf.TessPRF.from_tpf>`. Here
# its focus is free, and has one value for all cadences.
focus = TessPRF.from_tpf(tpf, tess_folder)
focus.x_scale.fixed = focus.y_scale.fixed = False
by_focus = extract_light_curve(tpf, psf=focus)
by_gaussian = extract_light_curve(tpf, psf='gaussian')

found = by_focus.meta['psf_parameters']
print(f'focus: {found["x_scale"]:.3f} along x, {found["y_scale"]:.3f} along y')

# %%
# How well do they fit? Add up what is left, without its sign, as a share of the light above the
# background:
light = (tpf.electrons - tpf.background_electrons)[0].sum()
for name, light_curve in (('Gaussian', by_gaussian), ('PRF', by_prf), ('focus free', by_focus)):
    left = np.abs(tpf.electrons[0] - light_curve.stamp_fits.model_images(0)).sum()
    flux, error = light_curve['flux'].value[0], light_curve['flux_err'].value[0]
    print(f'{name}: {100 * left / light:.1f} % left, flux {flux:.0f} +- {error:.0f} e-/s')

# %%
from kpsf.plotting import plot_cadence

fig, axes = plt.subplots(2, 3, figsize=(8.0, 5.2))
for row, light_curve, title in zip(axes, (by_prf, by_focus), ('PRF of the files', 'focus free')):
    plot_cadence(tpf, light_curve, 0, row)
    row[2].set_title(title)
plt.show()

# %%
# Data, model, and what is left in units of the noise, with the pipeline's aperture as a line.
# Above, the core is too bright in the model and the ring around it too faint: the star is wider
# than the PRF, by some per cent, as the fit of the focus found. Below, the star is described
# better, and much of the rest is other stars, which a scene can hold (:doc:`/user_guide/scenes`).
#
# What remains is still many times the noise. The three fluxes differ by several per cent, where
# photon noise is 0.1 per cent, and no error that is computed from the noise tells of that: a PRF
# that is right to some per cent gives a flux that is right to some per cent. For a light curve it
# would not matter if the star stood still. When it moves, that share changes.

# %%
# A light curve of Kepler
# -----------------------
#
# Kepler-62, or a simulated star of its brightness with a shallow transit every three and a half
# days, a focus that the file does not know, and a neighbour. The star moves by a fraction of a
# pixel.
if 'KPSF_DATA' in os.environ:
    tpf = read_tpf(data / 'kepler' / 'kplr009002278-2010174085026_lpd-targ.fits.gz')
else:
    truth = KeplerPRF.from_file(kepler_file, column=293, row=229)
    truth.x_scale, truth.y_scale = 1.02, 1.01
    transit = np.where(np.arange(80, 1080) % 170 < 8, 0.999, 1.0)
    tpf = read_tpf(simulate_tpf(
        folder / 'kepler.fits', truth, light_curve=transit, drift=0.2, shape=(6, 7), seed=2,
        stars=[(43_000.0, 3.2, 2.6), (900.0, 5.9, 4.6)], column=290, row=227,
        header={'CHANNEL': 20, 'MODULE': 7, 'OUTPUT': 4}))
print(tpf)

# %%
# The PRF against the default, a Gaussian whose shape is fitted to the series, and against the sum
# over the pipeline's aperture:
from kpsf.lightcurve import point_to_point_scatter

fluxes = {'aperture': tpf.aperture_flux()}
with conf.set_temp('prf_path', [str(kepler_file.parent)]):
    for psf in ('gaussian', 'prf'):
        fluxes[f"psf='{psf}'"] = extract_light_curve(tpf, psf=psf)['flux'].value

fig, ax = plt.subplots(figsize=(8.0, 4.2))
for number, (name, flux) in enumerate(fluxes.items()):
    relative = flux / np.nanmedian(flux)
    ax.plot(tpf.time.jd - 2454833, relative + 0.005 * number, '.', ms=2.0, label=name)
    print(f'{name}: flux {np.nanmedian(flux):.0f} e-/s, '
          f'{1e6 * point_to_point_scatter(flux):.0f} ppm from cadence to cadence')
ax.set(xlabel='BJD $-$ 2454833 (days)', ylabel='Flux / median, shifted by 0.005')
ax.legend(loc='lower left', markerscale=4.0)
plt.show()

# %%
# The aperture loses light when the star moves towards its edge, the fits less of it: they know how
# much lies outside. From cadence to cadence there is little between the three, since that is
# mostly photon noise. (For Kepler-62 it is 155, 150 and 152 ppm, with a PRF that is a simulated
# one, too; :doc:`/user_guide/prf`.) The fluxes differ by several per cent, because an aperture
# does not hold the wings, and a Gaussian does not know them: that of the PRF is the total flux, as
# far as the PRF is right. Slow trends that all three have in common, as those of real stars do,
# come from the instrument or the star, and no PRF takes them away.

# %%
# What to choose
# --------------
#
# * ``psf='prf'`` where the wings matter: for the total flux of a star, or the light of a
#   neighbour. Free the focus, and see how much is left.
# * ``psf='gaussian'`` needs no file, and may scatter as little. Compare both.
# * ``psf='empirical'`` learns what the star looks like from the series itself, and is the most
#   precise of the three. A PRF can be where it starts, and tells what is off the pixels:
#   ``Scene(base='prf')``, see :doc:`/user_guide/scenes`.
#
# Try another place (``kepler_prf.at(column, row)``), ``focus.theta`` free for a roll, or
# ``interpolate='nearest'`` in `TessPRF.from_tpf <kpsf.TessPRF.from_tpf>`. :doc:`/user_guide/prf`
# has the rest: images of your own, PRFs in photutils, places outside of the grid, and where the
# files go. The simulated ones are not needed any more:
temporary.cleanup()
