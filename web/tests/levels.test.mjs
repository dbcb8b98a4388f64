// The page draws plans before the library is there; they must be the library's.
import assert from 'node:assert/strict';
import test from 'node:test';
import { levelTable } from 'diffusion-forcing';
import { levelAt, rowsOf } from '../demo/levels.js';
import { SCHEDULES } from '../demo/state.js';

test('level_plans_of_the_page_are_the_librarys', async () => {
  for (const schedule of SCHEDULES)
    for (const [length, steps, uncertainty] of [
      [1, 4, 1],
      [7, 10, 2.25],
      [20, 50, 0],
      [5, 100, 10],
      [9, 12, 0.75],
    ]) {
      const table = await levelTable({ schedule, length, steps, uncertainty });
      const rows = rowsOf(schedule, steps, uncertainty, length) + 1;
      const levels = Array.from({ length: rows * length }, (_, i) =>
        levelAt(schedule, steps, uncertainty, Math.floor(i / length), i % length),
      );
      assert.equal(table.rows, rows);
      assert.deepEqual([...table.levels], levels, `${schedule} ${length} ${steps} ${uncertainty}`);
    }
});
