// What the viewer decides without a page: how a model is drawn, axes, settings, the recording of a
// run. What it draws is tested in browsers (web/tests/viewer.test.mjs).
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { describe, test } from 'node:test';
import { ViewError, chooseView } from '../web/src/viewer/kind.js';
import { Run } from '../web/src/viewer/run.js';
import {
  groupByScale,
  include,
  sameUnit,
  ticks,
  usual,
  write,
  writeTick,
} from '../web/src/viewer/scale.js';
import {
  SettingError,
  addressOf,
  conditionRows,
  keptFrames,
  modelUrl,
  readJson,
  readSeed,
  readSettings,
} from '../web/src/viewer/settings.js';
import { loadModel } from '../web/dist/index.js';
import { copyRow, tiny } from './helpers.mjs';
import { conditioned, endless, image, path, strokes, table } from './tiny.mjs';

const fieldsOf = (text) =>
  text.split(' ').map((word) => ({ name: word.replace('!', ''), binary: word.endsWith('!') }));

describe('the kind of a view', () => {
  const kindOf = (names, given) => chooseView(given, fieldsOf(names)).kind;

  test('follows from the fields', () => {
    assert.equal(kindOf('x y'), 'path');
    assert.equal(kindOf('vx vy X Y'), 'path');
    assert.equal(kindOf('x y pen!'), 'strokes');
    assert.equal(kindOf('dx dy pen!'), 'strokes');
    assert.equal(kindOf('speed height'), 'lines');
    assert.equal(kindOf('x z'), 'lines');
    assert.equal(kindOf('x! y!'), 'lines');
    assert.equal(kindOf('a b c d e f g'), 'table');
    assert.equal(kindOf('a b c d e f', { width: 3, height: 2 }), 'image');
  });

  test('is what the config says', () => {
    assert.equal(kindOf('x y pen!', { kind: 'lines' }), 'lines');
    assert.equal(kindOf('x y', { kind: 'table' }), 'table');
    assert.throws(() => kindOf('x y', { kind: 'graph' }), ViewError);
  });

  test('finds the fields, or takes those that are named', () => {
    const found = chooseView(undefined, fieldsOf('vx vy x y'));
    assert.deepEqual([found.x, found.y, found.relative, found.down], [2, 3, false, false]);
    const named = chooseView({ kind: 'path', x: 'b', y: 'a', down: true }, fieldsOf('a b'));
    assert.deepEqual([named.x, named.y, named.down], [1, 0, true]);
    const steps = chooseView(undefined, fieldsOf('dx dy pen!'));
    assert.deepEqual([steps.relative, steps.pen, steps.down], [true, 2, true]);
    const first = chooseView({ kind: 'path' }, fieldsOf('on! a b'));
    assert.deepEqual([first.x, first.y], [1, 2]);
    assert.deepEqual(chooseView({ fields: ['b'] }, fieldsOf('a b')).fields, [1]);
  });

  test('tells what is wrong with it', () => {
    const complaint = (names, given) => {
      let message;
      assert.throws(
        () => chooseView(given, fieldsOf(names)),
        (error) => {
          message = error.message;
          return error instanceof ViewError;
        },
      );
      return message;
    };
    assert.match(
      complaint('a b', { kind: 'path', x: 'c' }),
      /view\.x: expected one of .* a, b, found "c"/,
    );
    assert.match(complaint('a', { kind: 'path' }), /view\.y: .* found nothing/);
    assert.match(complaint('x y', { kind: 'strokes' }), /view\.pen/);
    assert.match(complaint('a b', { fields: ['c'] }), /view\.fields\[0\]/);
    assert.match(
      complaint('a b', { kind: 'image', width: 3, height: 2 }),
      /has 6 numbers, .* has 2/,
    );
    assert.match(complaint('a b', { kind: 'image', width: 1, height: 1, channels: 2 }), /channels/);
  });

  test('of the models that the tests have', () => {
    const kinds = [strokes, path, image, table].map(
      (config) => chooseView(config.view, config.tokens.fields).kind,
    );
    assert.deepEqual(kinds, ['strokes', 'path', 'image', 'table']);
  });
});

describe('axes', () => {
  test('ticks are round, within the range, and no more than asked for', () => {
    assert.deepEqual(ticks({ low: 0, high: 1 }, 6), [0, 0.2, 0.4, 0.6, 0.8, 1]);
    assert.deepEqual(ticks({ low: -7, high: 12 }, 5), [-5, 0, 5, 10]);
    assert.deepEqual(ticks({ low: 0.1, high: 0.42 }, 5), [0.1, 0.2, 0.3, 0.4]);
    assert.deepEqual(ticks({ low: 1, high: 1 }, 5), []);
    assert.deepEqual(ticks({ low: 0, high: Infinity }, 5), []);
    for (const [low, span, most] of [
      [-1e-6, 3e-7, 4],
      [812.7, 0.033, 7],
      [-3e9, 5e9, 3],
      [5, 49, 2],
    ]) {
      const range = { low, high: low + span };
      const found = ticks(range, most);
      assert.ok(found.length <= most && found.length > 0, `${found}`);
      for (const tick of found)
        assert.ok(tick >= range.low - 1e-9 * span && tick <= range.high + 1e-9 * span, `${tick}`);
    }
  });

  test('numbers are written short', () => {
    assert.deepEqual(
      [0, 1.006, -0.0123, 123.4, -12.34, 54321, 5e7, -4e-5].map((x) => write(x)),
      ['0', '1.01', '−0.0123', '123', '−12.3', '54321', '5.0e7', '−4.0e−5'],
    );
    assert.equal(write(NaN), '·');
    assert.deepEqual([0, 0.5, -20, 1500, 2e6, 0.30000000000000004].map(writeTick), [
      '0',
      '0.5',
      '−20',
      '1500',
      '2e6',
      '0.3',
    ]);
  });

  test('a range holds nearly all of a field, and grows', () => {
    const range = usual({ mean: 10, std: 2, binary: false });
    assert.ok(range.low > 4 && range.low < 7 && range.high > 13 && range.high < 16);
    include(range, 30);
    include(range, 12);
    assert.equal(range.high, 30);
  });

  test('a unit is as long in both directions', () => {
    const [x, y] = sameUnit({ low: 0, high: 10 }, { low: 4, high: 6 }, 200, 100);
    assert.deepEqual(
      [x, y],
      [
        { low: 0, high: 10 },
        { low: 2.5, high: 7.5 },
      ],
    );
  });

  test('fields of like scale share an axis', () => {
    const field = (mean, std, binary = false) => ({ mean, std, binary });
    assert.deepEqual(
      groupByScale([field(0, 1), field(900, 300), field(0.3, 0.7), field(500, 400)]),
      [
        [0, 2],
        [1, 3],
      ],
    );
    assert.deepEqual(groupByScale([field(0, 1), field(8, 1)]), [[0], [1]]);
  });
});

describe('settings', () => {
  const page = 'https://user.github.io/project/demo/index.html?seed=3';

  test('the model of an address', () => {
    const url = (address) => modelUrl(address, page);
    assert.equal(url('./model/'), 'https://user.github.io/project/demo/model/model.safetensors');
    assert.equal(url('model'), 'https://user.github.io/project/demo/model/model.safetensors');
    assert.equal(url('../a/b.safetensors'), 'https://user.github.io/project/a/b.safetensors');
    assert.equal(
      url('https://huggingface.co/USER/NAME'),
      'https://huggingface.co/USER/NAME/resolve/main/model.safetensors',
    );
    assert.equal(
      url('https://huggingface.co/USER/NAME/resolve/main/'),
      'https://huggingface.co/USER/NAME/resolve/main/model.safetensors',
    );
  });

  const defaults = { schedule: 'pyramid', steps: 50, uncertainty: 1 };
  const read = (attributes, address = {}) =>
    readSettings(
      (name) => attributes[name] ?? null,
      (name) => address[name] ?? null,
      defaults,
      100,
    );

  test('attributes, then the address over them', () => {
    assert.deepEqual(read({}), { seed: '0', ...defaults });
    assert.deepEqual(
      read({ seed: '007', steps: '10' }, { seed: '9', schedule: 'autoregressive' }),
      {
        seed: '9',
        schedule: 'autoregressive',
        steps: 10,
        uncertainty: 1,
      },
    );
    // fewer steps than the model's uncertainty
    assert.equal(read({ steps: '1' }).uncertainty, 1);
  });

  test('a wrong attribute is told, a wrong address is passed over', () => {
    assert.throws(() => read({ steps: '101' }), /attribute steps: expected 1 to 100, found "101"/);
    assert.throws(() => read({ seed: '-1' }), SettingError);
    assert.throws(() => read({ schedule: 'none' }), /autoregressive, pyramid/);
    assert.deepEqual(read({}, { steps: '1e9', seed: 'x', schedule: '' }), read({}));
  });

  test('seeds are 64 bits', () => {
    assert.equal(readSeed('18446744073709551615'), '18446744073709551615');
    assert.equal(readSeed('18446744073709551616'), null);
    assert.equal(readSeed('1.5'), null);
  });

  test('the address names what differs, and no more', () => {
    const plain = read({});
    const of = (settings, id = '') => addressOf(page, id, { ...plain, ...settings }, plain);
    assert.equal(of({}), 'https://user.github.io/project/demo/index.html');
    assert.match(of({ seed: '8', steps: 20 }), /\?seed=8&steps=20$/);
    assert.match(of({ seed: '8' }, 'left'), /\?seed=3&left-seed=8$/);
  });

  test('JSON in place and from an address', async (t) => {
    const server = createServer((request, response) =>
      request.url === '/good.json' ? response.end('[1, 2]') : response.writeHead(404).end('[3]'),
    );
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
    t.after(() => server.close());
    const base = `http://127.0.0.1:${server.address().port}/`;
    assert.equal(await readJson('observe', null, base), null);
    assert.deepEqual(await readJson('observe', ' [3]', base), [3]);
    assert.deepEqual(await readJson('observe', './good.json', base), [1, 2]);
    await assert.rejects(readJson('observe', 'bad.json', base), /observe: .*bad\.json answers 404/);
    await assert.rejects(readJson('keep', '[1,', base), /attribute keep: the JSON has a mistake/);
  });

  test('known frames by their tokens', () => {
    assert.deepEqual(keptFrames(null), []);
    assert.deepEqual(keptFrames([{ x: 1 }]), [[0, [{ x: 1 }]]]);
    assert.deepEqual(keptFrames({ 0: [[1]], 12: [[2]] }), [
      [0, [[1]]],
      [12, [[2]]],
    ]);
    assert.throws(() => keptFrames({ x: 1 }), SettingError);
  });

  test('one row of conditions is meant for all tokens', () => {
    assert.deepEqual(conditionRows([1, 2], 2, 3), [1, 2, 1, 2, 1, 2]);
    assert.deepEqual(conditionRows([[1], [2], [3], [4]], 1, 3), [1, 2, 3]);
    assert.throws(() => conditionRows([1, 2], 1, 3), /expected 1 numbers .* found 2/);
  });
});

describe('a run', () => {
  const never = new AbortController().signal;
  const nothing = { keep: [], condition: null, observation: null };
  const fill = async (model, options, given = nothing) => {
    const run = new Run(options.steps);
    await run.fill(model, options, given, never, () => {});
    if (run.error) throw run.error;
    return run;
  };

  test('has the rows that the sampler gives, and blends between them', async (t) => {
    const model = await tiny(t, {}, endless);
    const options = { length: 4, steps: 8, schedule: 'pyramid', uncertainty: 2, seed: 5, batch: 2 };
    const run = await fill(model, options);
    const rows = [];
    const sampler = model.sampler(options);
    rows.push(copyRow(await sampler.state()));
    for await (const row of sampler) rows.push(copyRow(row));
    assert.equal(run.last, rows.length - 1);
    assert.ok(run.done);
    for (const row of rows) {
      const moment = run.at(row.row, false);
      assert.deepEqual(Array.from(moment.tokens), Array.from(row.tokens));
      assert.deepEqual(
        Array.from(moment.levels),
        Array.from(row.levels, (level) => level / 8),
      );
    }
    const between = run.at(2.5, true);
    const middle = rows[2].tokens.map((value, i) => (value + rows[3].tokens[i]) / 2);
    between.tokens.forEach((value, i) => assert.ok(Math.abs(value - middle[i]) < 1e-4));
    assert.deepEqual(run.rowAt(2.5).row, 2);
  });

  test('knows the levels of rows to come, known tokens among them', async (t) => {
    const model = await tiny(t, {}, endless);
    const options = { length: 5, steps: 6, schedule: 'pyramid', uncertainty: 1, seed: 1 };
    const given = { ...nothing, keep: [[2, [1, 2, 0, 3, 4, 1]]] };
    const run = await fill(model, options, given);
    assert.deepEqual(run.known, [false, false, true, false, false]);
    // The same run before its second row: all levels but those of row 0 are its plan.
    const early = new Run(6);
    const stop = new AbortController();
    const planned = [];
    await early.fill(model, options, given, stop.signal, (row) => {
      if (row.row > 0) return;
      for (let m = 0; m <= run.last; m++)
        for (let t = 0; t < 5; t++) planned.push(early.level(m, t));
      stop.abort();
    });
    const sampled = [];
    for (let m = 0; m <= run.last; m++) for (let t = 0; t < 5; t++) sampled.push(run.level(m, t));
    assert.deepEqual(planned, sampled);
    assert.equal(early.error, null);
  });

  test('a drawn length shortens it', async (t) => {
    const model = await tiny(t, {}, strokes);
    const run = await fill(model, {
      length: 'drawn',
      steps: 6,
      seed: 3,
      batch: 1,
      schedule: 'pyramid',
    });
    assert.equal(run.columns, run.rows.at(-1).lengths[0]);
    assert.equal(run.planned, run.last);
  });

  test('conditions and observation arrive', async (t) => {
    const model = await tiny(t, {}, conditioned);
    const options = { length: 4, steps: 5, schedule: 'autoregressive', seed: 1 };
    const end = async (given) => Array.from((await fill(model, options, given)).rows.at(-1).tokens);
    const zeros = await end({ ...nothing, observation: [0, 0, 0] });
    assert.notDeepEqual(await end({ ...nothing, observation: [1, 0, 0] }), zeros);
    assert.notDeepEqual(await end({ ...nothing, observation: [0, 0, 0], condition: [2] }), zeros);
    await assert.rejects(
      fill(model, options, { ...nothing, observation: [1] }),
      /expected 3 numbers/,
    );
    await assert.rejects(fill(model, options, nothing), /observ/);
  });

  test('a long one keeps every second row, and its end', async (t) => {
    const fields = Array.from({ length: 600 }, (_, i) => ({ name: `f${i}` }));
    const wide = {
      ...endless,
      tokens: { fields },
      denoiser: { ...endless.denoiser, latent_size: 8 },
    };
    const { tinyModel } = await import('./tiny.mjs');
    const model = await loadModel(tinyModel(wide));
    t.after(() => model.dispose());
    const run = await fill(model, {
      length: 80,
      batch: 4,
      steps: 50,
      schedule: 'full-sequence',
      seed: 0,
    });
    assert.ok(run.stride > 1);
    assert.ok(run.rows.length * run.rows[0].tokens.byteLength * 2 <= 64e6);
    assert.equal(run.last, 50);
    assert.equal(run.rowAt(0).row, 0);
    assert.equal(run.rowAt(50).row, 50);
    for (let row = 0; row < 50; row++) {
      const found = run.rowAt(row).row;
      assert.ok(found <= row && row - found < run.stride, `${row}: ${found}`);
    }
  });
});
