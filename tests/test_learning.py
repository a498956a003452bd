# Licensed under a 3-clause BSD style license - see LICENSE
"""`learn_psf`: whether the PRF comes out that the stars were made with."""

from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from scipy.optimize import minimize

from kpsf import (
    EllipticalGaussianPRF,
    KeplerPRF,
    TabulatedPRF,
    TessPRF,
    extract_light_curve,
    learn_psf,
    read_tpf,
    simulate_tpf,
)
from kpsf._kernels.spline import normalize_phases, phase_sums
from kpsf.learning.grid import PRFGrid
from kpsf.learning.images import mean_images
from kpsf.learning.places import places_in, stars_of_stamps
from kpsf.learning.solve import Equations, Tuning
from kpsf.learning.stars import fit_stars
from kpsf.learning.start import gaussian_start, sample_start

KEPLER = {'CHANNEL': 20, 'MODULE': 7, 'OUTPUT': 4}
PIXELS, SAMPLES = 11, 12


def lopsided():
    """Return a PRF that no Gaussian is like: a core, a lobe on one side, and wings."""
    offset = (np.arange(PIXELS * SAMPLES) - (PIXELS * SAMPLES - 1) / 2) / SAMPLES
    y, x = np.meshgrid(offset, offset, indexing='ij')
    parts = [(0.70, 0.0, 0.0, 0.55, 0.50, 0.3), (0.22, 0.7, 0.4, 0.8, 0.6, 0.9),
             (0.08, -0.2, 0.3, 1.4, 1.3, 0.0)]
    image = sum(EllipticalGaussianPRF.from_stddev(flux, *shape)(x, y) for flux, *shape in parts)
    return TabulatedPRF(image, 1 / SAMPLES)


TRUTH = lopsided()


def make(folder, n_stamps, neighbours=(), **kwargs):
    """Return simulated stamps beside each other, the star of each at another place in its pixel.

    ``neighbours`` are more stars of every stamp: flux, and x and y from the target.
    """
    rng = np.random.default_rng(n_stamps)
    tpfs = []
    for number in range(n_stamps):
        x, y = 4 + rng.uniform(-0.5, 0.5, 2)
        stars = [(10**rng.uniform(3.7, 4.3), x, y)]
        stars += [(flux, x + dx, y + dy) for flux, dx, dy in neighbours]
        path = simulate_tpf(folder / f'{number}.fits', TRUTH, **{
            'n_cadences': 4, 'shape': (9, 9), 'stars': stars, 'seed': number, 'header': KEPLER,
            'column': 400 + 30 * number, **kwargs})
        tpfs.append(read_tpf(path))
    return tpfs


def error_of(model, truth=TRUTH):
    """Return the sum of absolute errors of a normalised image, the zero point aside."""
    steps = round(1 / model.spacing[0])
    x, y = ((np.arange(size) - origin) / steps
            for size, origin in zip(model.shape[::-1], model.origin))

    def error(shift):
        there = truth.table.evaluate(*np.meshgrid(x - shift[0], y - shift[1]))[0]
        there = normalize_phases(there, (steps, steps))
        return np.abs(model.data - there).sum() / there.sum()

    return minimize(error, [0.0, 0.0], method='Nelder-Mead',
                    options={'initial_simplex': [[0, 0], [0.2, 0], [0, 0.2]]}).fun


@pytest.fixture(scope='module')
def stamps(tmp_path_factory):
    return make(tmp_path_factory.mktemp('stamps'), 10)


@pytest.fixture(scope='module')
def learned(stamps):
    return learn_psf(stamps, oversampling=3)


def test_ten_stars_tell_the_prf_to_one_percent_from_a_gaussian(learned):
    assert learned.converged
    assert error_of(learned.start) > 0.1
    assert error_of(learned.model) < 0.01
    assert learned.start_residual > 0.1
    assert learned.residual < 0.005


def test_the_fluxes_are_the_true_ones(learned, stamps):
    true = [10**value for value in truth_of_fluxes(len(stamps))]
    assert learned.table['flux'] == pytest.approx(true, rel=0.003)


def truth_of_fluxes(n_stamps):
    """Return the logarithms of fluxes that `make` drew."""
    rng = np.random.default_rng(n_stamps)
    values = []
    for _ in range(n_stamps):
        rng.uniform(-0.5, 0.5, 2)
        values.append(rng.uniform(3.7, 4.3))
    return values


def test_every_phase_sums_to_one(learned):
    steps = (learned.oversampling, learned.oversampling)
    assert phase_sums(learned.model.data, steps) == pytest.approx(np.ones(steps), abs=1e-12)


def test_the_zero_point_is_that_of_the_start(learned):
    added = learned.model.data - learned.start.data
    slopes = np.gradient(learned.start.data)
    assert [np.vdot(added, slope) / np.vdot(slope, slope) for slope in slopes] == pytest.approx(
        [0.0, 0.0], abs=2e-3)


def test_drift_shows_one_star_at_enough_places(tmp_path):
    drift = np.random.default_rng(1).uniform(-0.5, 0.5, (30, 2))
    tpf, = make(tmp_path, 1, n_cadences=30, drift=drift)
    alone = learn_psf(tpf, oversampling=3)
    assert alone.n_images > 25
    assert error_of(alone.model) < 0.03


def test_blended_stars_are_fitted_jointly(tmp_path):
    tpfs = make(tmp_path, 10, neighbours=[(5000.0, 2.3, -0.8)])
    x, y = np.array([[np.median(place) for place in tpf.expected_positions()] for tpf in tpfs]).T
    number = np.arange(len(tpfs))
    pairs = Table({'tpf': np.tile(number, 2), 'x': np.append(x, x + 2.3),
                   'y': np.append(y, y - 0.8)})
    joint = learn_psf(tpfs, pairs, oversampling=3)
    ignored = learn_psf(tpfs, oversampling=3)
    assert joint.n_stars == 20
    assert error_of(joint.model) < 0.02
    assert error_of(ignored.model) > 3 * error_of(joint.model)
    blend = joint.table[joint.table['star'] >= 10]
    assert blend['flux'] == pytest.approx(np.full(10, 5000.0), rel=0.03)


def test_a_star_shines_into_the_stamp_beside_its_own(tmp_path):
    tpfs = make(tmp_path, 8)
    x, y = (np.median(place) for place in tpfs[0].expected_positions())
    flux, first = 10**truth_of_fluxes(8)[0], round(x) + 2
    # The star of the first stamp is two columns left of this one, which has a fainter star.
    path = simulate_tpf(tmp_path / 'beside.fits', TRUTH, n_cadences=4, shape=(9, 9), seed=9,
                        stars=[(3000.0, 4.3, 4.1), (flux, x - first, y)],
                        column=tpfs[0].column + first, header=KEPLER)
    learned = learn_psf([*tpfs, path], oversampling=3)
    beside = learned.table[(learned.table['tpf'] == 8) & ~learned.table['is_fitted']]
    assert list(beside['star']) == [0]
    assert beside['x'][0] == pytest.approx(x - first, abs=0.2)
    # The same number, up to the rounding of a mean.
    assert beside['flux'][0] == pytest.approx(learned.table['flux'][0], rel=1e-12)
    assert learned.table['residual'][learned.table['tpf'] == 8].max() < 0.015
    assert error_of(learned.model) < 0.02


def test_what_the_pixels_do_not_tell_is_as_in_the_start(stamps):
    # The true PRF is not changed by more than noise, nor beyond the stamps.
    same = learn_psf(stamps, oversampling=3, start=TRUTH, n_pixels=11)
    assert error_of(same.start) < 1e-3
    assert error_of(same.model) < 0.005
    wide = learn_psf(stamps[:3], oversampling=3, start=TRUTH, n_pixels=15)
    outer = np.abs(wide.model.data - wide.start.data)[:3]
    assert outer.max() < 1e-4 * wide.model.data.max()


def test_the_evidence_chooses_the_oversampling(stamps, learned):
    chosen = learn_psf(stamps[:5])
    tried = {steps: learn_psf(stamps[:5], oversampling=steps) for steps in (2, 3)}
    best = max(tried, key=lambda steps: tried[steps].evidence)
    assert chosen.oversampling == best
    assert chosen.evidence == tried[best].evidence


def test_saturated_and_missing_pixels_are_left_out(stamps):
    flux, good = stamps[0].flux.copy(), stamps[0].good_pixels.copy()
    brightest = np.unravel_index(np.argmax(flux[0]), flux[0].shape)
    flux[:, brightest[0], brightest[1]] = 1e6
    flux[:, 1, 1], good[:, 1, 1] = np.nan, False
    broken = replace(stamps[0], flux=flux, good_pixels=good)
    stamp = mean_images(broken, 'broken', places_in(None, [broken], 0))
    # The pixels above and below it too.
    assert stamp.values.shape == (1, 81 - 3 - 1)
    assert error_of(learn_psf([broken, *stamps[1:]], oversampling=3).model) < 0.02


def test_the_rows_are_the_derivatives_of_the_pixels():
    grid = PRFGrid(sample_start(TRUTH, 33, 3), 3)
    rng = np.random.default_rng(2)
    dx, dy = rng.uniform(-4, 4, (2, 200))
    u = rng.normal(size=33**2)
    u -= grid.constraints @ np.linalg.lstsq(grid.constraints, u)[0]
    there = grid.table(1e-3 * u).evaluate(dx, dy)[0] - grid.start.evaluate(dx, dy)[0]
    assert 1e-3 * grid.rows(dx, dy, 7.0) @ u / 7.0 == pytest.approx(there, abs=1e-9)


def test_more_smoothness_is_less_correction(stamps):
    parts = [mean_images(tpf, 'star', places_in(None, [tpf], 0)) for tpf in stamps]
    stars = stars_of_stamps(None, stamps, parts)
    start = gaussian_start(parts, stars, 'Kepler')
    grid = PRFGrid(sample_start(start, 33, 3), 3)
    for part, star in zip(parts, stars):
        fit_stars(grid.start, part, star, 0.01)
    equations = Equations(grid, grid.start, np.zeros(33**2), parts, stars)
    bends = []
    for smoothness in (0.1, 10.0, 1e3, 1e7):
        u, _ = equations.solve(Tuning(smoothness, 0.01))
        assert np.abs(grid.constraints.T @ u).max() < 1e-8 * np.abs(u).max()
        bends.append(u @ (grid.penalty @ u))
    assert np.all(np.diff(bends) < 0)
    assert bends[-1] < 1e-3 * bends[0]


def test_a_light_curve_takes_it(learned, stamps):
    with_start = extract_light_curve(stamps[0], learned.start, position='shared')
    with_model = extract_light_curve(stamps[0], learned.model, position='shared')
    assert np.all(with_model['flags'] == 0)
    true = 10**truth_of_fluxes(len(stamps))[0]
    error = [abs(np.median(curve['flux'].value) / true - 1)
             for curve in (with_start, with_model)]
    assert error[1] < 0.003 < 0.03 < error[0]


def test_kepler_reads_what_was_saved(learned, stamps, tmp_path):
    path = learned.save(tmp_path / 'learned_prf.fits')
    model = KeplerPRF.from_tpf(stamps[3], path)
    assert model.detector == {'channel': 20, 'module': 7, 'output': 4}
    assert model.data == pytest.approx(learned.model.data, abs=1e-9)
    assert model.origin == learned.model.origin
    image = TabulatedPRF.read(path)
    assert image.data == pytest.approx(learned.model.data, abs=1e-9)
    header = fits.getheader(path)
    assert (header['NSTARS'], header['OVERSAMP'], header['NFILES']) == (10, 3, 10)
    assert header['INFIL001'] == stamps[0].target
    assert header['CREATOR'].startswith('kpsf ')
    with pytest.raises(FileExistsError, match='overwrite=True'):
        learned.save(path)
    assert learned.save(path, overwrite=True) == path


def test_tess_reads_what_was_saved(tmp_path):
    header = {'CAMERA': 4, 'CCD': 1, 'SECTOR': 5}
    tpfs = make(tmp_path, 3, mission='TESS', header=header)
    learned = learn_psf(tpfs, oversampling=2, max_iter=2)
    path = learned.save(tmp_path / 'tess-prf.fits')
    model = TessPRF.from_tpf(tpfs[1], path)
    assert model.detector == {'camera': 4, 'ccd': 1, 'first_sector': 4}
    assert model.data == pytest.approx(learned.model.data, abs=1e-9)
    x, y = model.calibration.columns[0], model.calibration.rows[0]
    assert (x, y) == pytest.approx((434, 504), abs=0.5)


def test_without_a_detector_only_the_image_is_written(learned, tmp_path):
    unknown = replace(learned, detector={'channel': None, 'module': None, 'output': None})
    with pytest.raises(ValueError, match=r'channel, module, output is not known.*model.write'):
        unknown.save(tmp_path / 'prf.fits')
    path = unknown.model.write(tmp_path / 'prf.fits')
    assert TabulatedPRF.read(path).data == pytest.approx(learned.model.data, abs=1e-12)


def test_a_list_of_paths_is_named_by_the_files(tmp_path):
    make(tmp_path, 3)
    learned = learn_psf([tmp_path / f'{n}.fits' for n in range(3)], oversampling=2, max_iter=1)
    assert learned.files == ('0.fits', '1.fits', '2.fits')
    assert not learned.converged
    assert 'not converged' in repr(learned)


@pytest.mark.parametrize(('stars', 'message'), [
    ({'x': [4.0], 'y': [30.0], 'tpf': [0]}, 'column 404.00, row 530.00 is not in one of KIC'),
    ({'column': [4.0], 'row': [30.0]}, 'is in none of the 10 stamps'),
    ({'x': [4.0], 'y': [4.0]}, 'need a column tpf'),
    ({'x': [4.0], 'y': [4.0], 'tpf': [10]}, '0 to 9, but they are 10 to 10'),
    ({'ra': [4.0], 'dec': [4.0]}, 'columns ra, dec'),
    ({'x': [4.0, 4.1], 'y': [4.0, 4.0], 'tpf': [0, 0]}, 'stars 0 and 1 are both at column 404.10'),
    ({'x': [np.nan], 'y': [4.0], 'tpf': [0]}, 'must be finite'),
    ({'x': [4.0], 'y': [4.0], 'tpf': [0]}, 'different places in their pixels'),
])
def test_wrong_stars_say_what_to_do(stamps, stars, message):
    with pytest.raises(ValueError, match=message):
        learn_psf(stamps, stars)


def test_too_few_stamps_are_refused(stamps):
    with pytest.raises(ValueError, match='3 or more different places in their pixels, but 2'):
        learn_psf(stamps[:2])
    with pytest.raises(ValueError, match='at least one target pixel file'):
        learn_psf([])
    with pytest.raises(ValueError, match='pass each file and each star once'):
        learn_psf([*stamps, stamps[0]])


def test_stamps_of_other_channels_are_refused_unless_forced(stamps):
    other = replace(stamps[2], meta={**stamps[2].meta, 'channel': 21, 'module': 8, 'output': 1})
    with pytest.raises(ValueError, match=r'channel 20 \(7.4\) and .* channel 21 .*force=True'):
        learn_psf([*stamps[:2], other])
    with pytest.raises(ValueError, match='is of Kepler'):
        learn_psf([*stamps[:2], replace(stamps[2], mission='K2')])
    forced = learn_psf([*stamps[:2], other], oversampling=2, max_iter=1, force=True)
    assert forced.n_stars == 3


@pytest.mark.parametrize(('options', 'error', 'message'), [
    ({'oversampling': 0}, ValueError, 'oversampling must be a whole number'),
    ({'n_pixels': 3}, ValueError, 'n_pixels must be at least 5'),
    ({'saturation': -1.0}, ValueError, 'saturation must be a finite number > 0'),
    ({'saturation': 1e-3}, ValueError, 'neither saturated nor NaN'),
    ({'start': 'gaussian'}, TypeError, 'start must be a two-dimensional model'),
    ({'max_iter': 0}, ValueError, 'max_iter must be a whole number'),
])
def test_wrong_options_say_what_to_do(stamps, options, error, message):
    with pytest.raises(error, match=message):
        learn_psf(stamps, **options)


def test_real_stars_are_fitted_better_than_by_a_gaussian_or_the_prf_of_another_channel(kpsf_data):
    paths = sorted((kpsf_data / 'kepler_q12_ch04').glob('*.fits'))
    tpfs = [read_tpf(path) for path in paths]
    learned = learn_psf([part_of(tpf, np.s_[::2]) for tpf in tpfs])
    assert learned.n_stars == 5
    assert learned.converged
    assert learned.residual < 0.08
    # Of the PRF that is held, on the cadences that it has not seen.
    held_out = [part_of(tpf, np.s_[1::2]) for tpf in tpfs]
    other = KeplerPRF.from_file(kpsf_data / 'kepler_prf/kplr07.4_2011265_prf.fits', 860, 245)
    own, calibrated, gaussian = (
        learn_psf(held_out, start=start, oversampling=learned.oversampling,
                  max_iter=1).start_residual for start in (learned.model, other, None))
    assert own < 1.05 * learned.residual
    assert own < 0.35 * min(gaussian, calibrated)


def part_of(tpf, cadences):
    """Return some cadences of target pixels."""
    names = ('time', 'cadenceno', 'flux', 'flux_err', 'background', 'quality', 'good_pixels',
             'pos_corr')
    return replace(tpf, **{name: getattr(tpf, name)[cadences] for name in names})
