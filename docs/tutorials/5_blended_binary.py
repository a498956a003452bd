"""
A blended eclipsing binary: which star dims?
============================================

A light curve shows three shallow dips, 0.16 per cent deep. In front of a star like the Sun, a
planet a little larger than Neptune makes such dips. But there is a second star on the same pixels,
1.8 pixels away and twenty times fainter, and where *that* one dims by 6 per cent, the sum over the
pixels looks just the same.

This tutorial takes the two apart. You will see where light is lost in the pixels, fit both stars
in every cadence, and read from their light curves, errors and covariance which of the two dims.
Then you will get it wrong on purpose: with a PSF and with places that are not right. That shows
what such an answer rests on, how to check it, and what cannot be told.
"""

# %%
# Two stars whose truth is known
# ------------------------------
#
# `~kpsf.simulate_tpf` writes a target pixel file of Kepler. So that the stars have the wide wings
# of real ones, their PSF is a Moffat profile: eight per cent of its light is more than three
# pixels from the middle. `~kpsf.simulate_kepler_prf` puts it into a calibration file in the
# layout of the archive, and `~kpsf.KeplerPRF` reads that as it would read the one of a real
# channel; ``column`` and ``row`` are the place on the detector. Where you have real pixels,
# ``psf='prf'`` does all of that.
import warnings
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import numpy as np
from photutils.psf import MoffatPSF

from kpsf import (
    FitFlag,
    KeplerPRF,
    Scene,
    extract_light_curve,
    find_stars,
    read_tpf,
    signal_transfer,
    simulate_kepler_prf,
    simulate_tpf,
)
from kpsf.plotting import plot_blends
from kpsf.signals import Signal

# sphinx_gallery_thumbnail_number = 2
plt.style.use('kpsf.plotting.style')
temporary = TemporaryDirectory()
folder = temporary.name

prf_file = simulate_kepler_prf(f'{folder}/kplr07.4_2011265_prf.fits',
                               MoffatPSF(alpha=1.4, beta=2.5))
prf = KeplerPRF.from_file(prf_file, column=500, row=500)

# %%
# Eight days of half an hour each. The target is constant; the neighbour has an eclipse of 6 per
# cent every 2.7 days, which begins and ends in steep slopes. ``light_curve`` has one row of
# factors for each star, ``drift`` is how far all stars move in these days, in pixels, and
# ``seed`` makes the same noise each time.
time = 0.0204336 * np.arange(400)
period, duration = 2.7, 0.3
since_middle = (time - 1.3 + period / 2) % period - period / 2
eclipse = np.clip((duration / 2 - np.abs(since_middle)) / (duration / 4), 0, 1)

target = (160000.0, 5.1, 4.8)          # flux in electrons per second, x and y in pixels
neighbour = (8000.0, 6.54, 5.88)
path = simulate_tpf(f'{folder}/blend.fits', prf, stars=[target, neighbour],
                    light_curve=[np.ones(400), 1 - 0.06 * eclipse], drift=0.01, seed=1)
tpf = read_tpf(path)
print(tpf)

# %%
# What the aperture shows
# -----------------------
#
# The pipeline's light curve is the sum over an aperture. To measure the depth of the dips in this
# and in everything below, we fit four things to a series at once: the eclipse, a constant, and
# what goes with the motion of the stars along x and y, which the file has as ``pos_corr``. Such a
# fit is a weighted sum of the cadences, and ``np.linalg.pinv`` gives the weights. The eclipse's
# own times are known here; a search for periodic dips would tell them.
design = np.column_stack([-eclipse, np.ones(400), tpf.pos_corr])
depth_weights, level_weights = np.linalg.pinv(design)[:2]

aperture_flux = tpf.aperture_flux()
aperture_err = np.sqrt((tpf.flux_err[:, tpf.pipeline_aperture]**2).sum(axis=1))
level = level_weights @ aperture_flux
depth = depth_weights @ aperture_flux
depth_err = np.sqrt(depth_weights**2 @ aperture_err**2)
print(f'The aperture dims by {1e6 * depth / level:.0f} +- {1e6 * depth_err / level:.0f} ppm, '
      f'{depth:.0f} electrons per second.')

fig, ax = plt.subplots(figsize=(8, 2.8))
ax.errorbar(time, 1e6 * (aperture_flux / level - 1), 1e6 * aperture_err / level, fmt='o', ms=3,
            elinewidth=0.8)
ax.set(xlabel='Time (days)', ylabel='Relative flux (ppm)', title='Sum over the aperture')
plt.show()

# %%
# Three dips, flat at the bottom, a hundred times as deep as the error of their depth, and a slow
# trend as the stars drift. Nothing in this figure tells that the star in the middle of the
# aperture has no part in the dips.
#
# Where is the light lost?
# ------------------------
#
# The same weights, applied to every pixel, make a *difference image*: how much each pixel dims in
# the eclipses. And the same weights, applied to the position of a single PSF that is fitted to
# the whole stamp, tell how far the centre of light moves. These are the classical checks on
# transits of Kepler (Bryson et al. 2013, PASP, 125, 889).
difference = np.tensordot(depth_weights, tpf.flux, axes=1)
single = extract_light_curve(tpf)
offset = np.array([neighbour[1] - target[1], neighbour[2] - target[2]])
towards = offset / np.hypot(*offset)

moves = np.column_stack([single['x'].value, single['y'].value])
# Without the constant and what goes with the motion of both stars, only the eclipses are left.
moves -= design[:, 1:] @ np.linalg.pinv(design)[1:] @ moves
along = 1000 * moves @ towards
across = 1000 * moves @ [-towards[1], towards[0]]
print(f'In the eclipses, the centre of light moves by {-depth_weights @ along:.2f} millipixels '
      f'towards\nthe neighbour, and by {-depth_weights @ across:.2f} across that line.')

fig, axes = plt.subplot_mosaic([['mean', 'difference'], ['centre', 'centre']], figsize=(8, 5.6),
                               height_ratios=[2, 1])
for name, image, title in (('mean', np.log10(tpf.flux.mean(axis=0)), 'Mean image'),
                           ('difference', difference, 'Light lost in the eclipses')):
    shown = axes[name].imshow(image)
    axes[name].plot(*target[1:], '+', color='C1', ms=12, mew=2, label='target')
    axes[name].plot(*neighbour[1:], 'x', color='C3', ms=9, mew=2, label='neighbour')
    axes[name].set(title=title, xlabel='x (pixels)', ylabel='y (pixels)')
    label = 'log of electrons per second' if name == 'mean' else 'electrons per second'
    fig.colorbar(shown, ax=axes[name], label=label)
axes['mean'].legend(loc='upper left', labelcolor='white')
axes['centre'].plot(time, along, 'o', ms=3)
axes['centre'].set(xlabel='Time (days)', ylabel='Shift (millipixels)',
                   title='Centre of light, along the line from target to neighbour')
plt.show()

# %%
# The difference image has its peak on the neighbour. The centre of light moves *away* from it
# when light is lost; if it were the target that dims, it would move towards the neighbour, which
# then has the larger share. So the dips are not the target's. How deep they are in each of the
# two stars, and how sure that is, neither image nor shift tell.
#
# Who is there?
# -------------
#
# A table of stars is needed. The best one comes from a catalogue (`~kpsf.scenes.query_gaia`).
# Without, `~kpsf.find_stars` looks for stars in the mean image, and has to be told what a star
# looks like:
found = find_stars(tpf, prf)
found['name'] = ['target', 'neighbour']
for star in found:
    print(f'{star["name"]}: x = {star["x"]:.2f}, y = {star["y"]:.2f}, '
          f'{star["flux"]:.0f} electrons per second')
print(f'Without the PRF there would be {len(find_stars(tpf))} stars.')

# %%
# The neighbour is found, a third of a pixel off and too faint: each star was fitted in the light
# that the other left. That is good enough to start from. Most of the twelve stars that a Gaussian
# finds are what it leaves of the wings: look at such a table before you use it.
#
# Two light curves
# ----------------
#
# A `~kpsf.Scene` is such a table with a PSF. `~kpsf.extract_light_curve` improves the places in
# the mean image, measures the motion, and then finds the fluxes of both stars in every cadence
# together.
curves = extract_light_curve(tpf, scene=Scene(found, psf=prf))
axes = plot_blends(curves)
plt.show()

# %%
# The target is flat, and the neighbour has the eclipses. The number between the panels tells what
# light curves alone do not: the errors of the two fluxes are not independent. What the fit gives
# to one star it takes from the other, so they are correlated negatively. The covariance is part
# of the result, and the depths inherit it, since they are weighted sums of the fluxes:


def depths_of(curves):
    """Return the depths in electrons per second, their covariance, and the levels of the stars."""
    covariance = np.einsum('n,nij->ij', depth_weights**2, curves.covariance)
    return depth_weights @ curves.flux.value, covariance, level_weights @ curves.flux.value


depths, covariance, levels = depths_of(curves)
errors = np.sqrt(np.diag(covariance))
for name, depth, depth_err, level in zip(curves.names, depths, errors, levels):
    print(f'{name}: {level:.0f} electrons per second, dims by {depth:.1f} +- {depth_err:.1f}, '
          f'{100 * depth / level:.3f} +- {100 * depth_err / level:.3f} per cent')
correlation = covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1])
print(f'The correlation of the two depths is {correlation:.2f}; '
      f'together, the stars dim by {depths.sum():.1f} +- {np.sqrt(covariance.sum()):.1f}.')

# %%
# An eclipse of 6 per cent in the neighbour, and none in the target, to 15 ppm: a planet that
# makes dips of 100 ppm would have been seen. The aperture has half of the light that the
# neighbour loses on its pixels, and divides it by the light of both.
#
# With the wrong PSF
# ------------------
#
# All of that was found with the PSF that the stars have in truth. On real pixels it is known to a
# few per cent. We do it again with a PRF that is two per cent too wide, with a Gaussian, and with
# ``psf='empirical'``, the default of `~kpsf.Scene`, which learns the images of the stars from the
# series but needs a *base* to tell whose light is whose; the default base is a Gaussian.
#
# And we do it twice: with the places that were found, which the scene may improve, and with those
# of a catalogue, which are right and held (``position_error=0``; the motion is measured in either
# case).
wide_file = simulate_kepler_prf(f'{folder}/kplr07.4_2011266_prf.fits',
                                MoffatPSF(alpha=1.43, beta=2.5))
wide_prf = KeplerPRF.from_file(wide_file, column=500, row=500)

catalogue = {'name': ['target', 'neighbour'], 'x': [target[1], neighbour[1]],
             'y': [target[2], neighbour[2]]}
scenes = {}
for psf_name, options in (('right PRF', {'psf': prf}), ('PRF 2 % too wide', {'psf': wide_prf}),
                          ('Gaussian', {'psf': 'gaussian'}), ('learned, Gaussian base', {})):
    scenes[psf_name, 'places found'] = Scene(found, **options)
    scenes[psf_name, 'places held'] = Scene(catalogue, position_error=0, **options)

print('PSF                     places         target (ppm)  neighbour (%)  '
      'off (pixels)  residual (%)')
results = {}
for (psf_name, places), scene in scenes.items():
    fitted = extract_light_curve(tpf, scene=scene)
    depths, covariance, levels = depths_of(fitted)
    ppm, ppm_err = 1e6 * depths[0] / levels[0], 1e6 * np.sqrt(covariance[0, 0]) / levels[0]
    results[psf_name, places] = ppm, ppm_err
    star = fitted['neighbour']
    off = np.hypot(np.median(star['x'].value) - neighbour[1],
                   np.median(star['y'].value) - neighbour[2])
    print(f'{psf_name:23} {places:12}  {ppm:5.0f} +- {ppm_err:2.0f}'
          f'  {100 * depths[1] / levels[1]:14.2f}  {off:12.2f}'
          f'  {100 * star.meta["psf_residual"]:12.3f}')

fig, ax = plt.subplots(figsize=(8, 3.2))
psf_names = list(dict.fromkeys(psf_name for psf_name, _ in results))
for places, shift, marker in (('places found', 0.1, 'o'), ('places held', -0.1, 's')):
    values = np.array([results[psf_name, places] for psf_name in psf_names])
    ax.errorbar(values[:, 0], shift - np.arange(len(values)), xerr=values[:, 1], fmt=marker, ms=5,
                label=places)
ax.axvline(0, color='0.6', lw=1, zorder=0)
ax.set_yticks(-np.arange(len(psf_names)), psf_names)
ax.set(xlabel='Dip of the target (ppm); in truth there is none')
ax.legend(loc='upper right')
plt.show()

# %%
# With a PRF that is wrong by two per cent, and places that it could improve, the target dips by
# more than 200 ppm at more than ten standard deviations: a false planet, of which no error bar
# warns. With a Gaussian it is deeper yet. The column "off" tells why: the neighbour was moved by
# 0.1 and 0.25 pixels, to where it explains the wings of the target best. With places that are
# right and held, the target is flat to within a few tens of ppm under any of these PSFs. The
# *level* of the neighbour is still wrong, because it has wings of the target in it, and so is its
# depth in per cent. So take places from a catalogue if there is one, and tell the scene how good
# they are.
#
# How to notice
# -------------
#
# ``psf_residual`` is what the PSF, or the base, leaves of the mean image, as a share of the
# light. Here it is 0.003 per cent for the right one, which is photon noise. Values of real stars
# are 5 to 10 per cent for a PRF, and 10 to 50 for a Gaussian; none of them can be trusted blindly
# at this distance. `~kpsf.plotting.plot_scene` shows it pixel by pixel, where the PSF was not
# learned.
#
# `~kpsf.signal_transfer` puts a signal into the pixels of one star and asks what comes back. By
# default it takes the star's light from the fit that it checks. ``light=`` takes it from another
# fit, one with the PSF that you trust most:
dip = Signal('dip', depth=0.1, length=1.0)
learned = scenes['learned, Gaussian base', 'places found']
for words, options in (('its own split of the light', {}),
                       ('the split by the PRF', {'light': curves})):
    row = signal_transfer(tpf, dip, star='neighbour', scene=learned, **options)[0]
    print(f'By {words}, {100 * row["transfer"]:.1f} per cent of the dip come back: '
          f'{"passed" if row["passed"] else "failed"}.')

# %%
# Asked about its own split, the fit is content with itself: whatever it takes for the neighbour's
# light does come back as the neighbour's. Asked about the light that the PRF says is the
# neighbour's, it admits that almost a fifth of it goes to the target. No check can do without
# some independent knowledge of the PSF.
#
# How close is too close?
# -----------------------
#
# The same two stars at distances from 0.15 to 3 pixels, where the neighbour fades by half in the
# middle of the series. Which share of that is found in the neighbour, with the right PRF, and
# with the one that is 2 per cent too wide? Places are held.
distances = np.array([0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0])
fading = np.ones((2, 40))
fading[1, 20:] = 0.5
errors, shares, too_close = np.empty((2, 10)), np.empty((2, 10)), np.empty(10, bool)
for i, distance in enumerate(distances):
    x, y = np.array(target[1:]) + distance * towards
    pair = read_tpf(simulate_tpf(f'{folder}/pair{i}.fits', prf, light_curve=fading, seed=i,
                                 stars=[target, (neighbour[0], x, y)]))
    stars = {'x': [target[1], x], 'y': [target[2], y]}
    for j, psf in enumerate([prf, wide_prf]):
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')        # that the stars are too close, as we know
            star = extract_light_curve(pair, scene=Scene(stars, psf, position_error=0))[1]
        flux = star['flux'].value
        shares[j, i] = (flux[:20].mean() - flux[20:].mean()) / (0.5 * neighbour[0])
        errors[j, i] = np.median(star['flux_err'].value[:20]) / neighbour[0]
        if j == 0:
            too_close[i] = (star['flags'] & FitFlag.NOT_SEPARABLE).any()

fig, (left, right) = plt.subplots(1, 2, figsize=(8, 3.4))
left.plot(distances, 100 * errors[0])
left.plot(distances[~too_close], 100 * errors[0][~too_close], 'o', color='C0')
left.plot(distances[too_close], 100 * errors[0][too_close], 'o', color='C0', mfc='white',
          label='flagged NOT_SEPARABLE')
left.set(xscale='log', yscale='log', xlabel='Distance (pixels)',
         ylabel='Error of a cadence (% of the neighbour)')
left.legend()
right.plot(distances, 100 * shares[0], 'o-', label='right PRF')
right.plot(distances, 100 * shares[1], 's-', color='C1', label='PRF 2 % too wide')
right.set(xscale='log', xlabel='Distance (pixels)', ylabel='Share found in the neighbour (%)',
          ylim=(-20, 125))
right.legend(loc='lower right')
for ax in (left, right):
    ax.set_xticks([0.2, 0.5, 1, 2], ['0.2', '0.5', '1', '2'])
    ax.set_xticks([], minor=True)
left.set_yticks([0.1, 0.2, 0.5, 1, 2], ['0.1', '0.2', '0.5', '1', '2'])
left.set_yticks([], minor=True)
plt.show()

# %%
# On the left, the error grows as the stars come closer; below 0.4 pixels it is more than three
# times what it would be if the neighbour were alone, and all cadences have the flag
# ``NOT_SEPARABLE``. On the right, a PSF that is not quite right gives a wrong answer much
# earlier. At half a pixel, a fifth of what the neighbour does is taken for the target's; there
# the neighbour's flux is below zero, which is flagged. At 0.7 pixels it is a tenth, and at one
# pixel 3 per cent, of which hardly a flag tells. What limits blends is not noise but how well the
# PSF is known.
#
# What cannot be told
# -------------------
#
# * **Which of two stars within a third of a pixel dims.** Their sum is measured as well as one
#   star is. Use that, and say so.
# * **Whether the table is complete.** A star that is in no table has no light curve: what it does
#   goes to those that are in it. A companion of the target within a tenth of a pixel is no star
#   of its own in any image of Kepler or TESS; high-resolution imaging and spectra are for that.
# * **The depth in per cent, better than the level of the star.** Wings of a bright neighbour that
#   the PSF does not have end up in it. The light that is lost, in electrons, is the safer number.
# * **What eclipses the neighbour.** A depth is a ratio of areas. Whether the body in front is a
#   small star or a planet, it does not say.
#
# Try next: a neighbour at 1.2 pixels, or one as bright as the target; ``drift=0.1``;
# ``base=prf``, with which the default of `~kpsf.Scene` splits the light rightly.
# :doc:`/user_guide/scenes` has all that can be chosen, scenes of several stamps, and PSFs that
# other stars tell.
temporary.cleanup()
