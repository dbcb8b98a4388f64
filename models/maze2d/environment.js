// D4RL's Maze2D on MuJoCo: a ball on a plane, pushed by two forces. Runs wherever @mujoco/mujoco does.
//
// Checked by replaying D4RL's seeded reference scripts (check.mjs): the twelve published returns come
// out in every digit.

/** @import { MainModule, MjData, MjModel } from '@mujoco/mujoco' */
/** @import { Layout, MazeName, Point } from './layouts.js' */
/** @import { Random } from './mersenne-twister.js' */
import { drawPoint, isWall, layouts } from './layouts.js';

/** @type {typeof Symbol.dispose} */
const symbolDispose = /** @type {any} */ (Symbol.dispose ?? Symbol.for('Symbol.dispose'));

/** Both components are cut to this before a step, which may then add 0.24. */
const maxVelocity = 5;

// ---- Loading -----------------------------------------------------------------------------------

/**
 * A new instance of MuJoCo. Objects of one instance are refused by another, so a page needs one.
 * @param {object} [options]
 * @param {ArrayBuffer | Uint8Array} [options.wasmBinary] mujoco.wasm, where it is already there
 * @param {(file: string) => string} [options.locateFile] its address; default: beside MuJoCo's script
 * @param {number} [options.timeout] ms. Under a content security policy without `unsafe-eval`
 *   MuJoCo's loader neither resolves nor rejects.
 * @returns {Promise<MainModule>} rejects if the file is missing
 */
export async function loadMujoco({ timeout = 60_000, ...options } = {}) {
  const { default: load } = await import('@mujoco/mujoco');
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => {
      const why = 'a content security policy must allow unsafe-eval';
      reject(new Error(`MuJoCo did not start within ${timeout / 1000} s (${why})`));
    }, timeout);
  });
  return /** @type {Promise<MainModule>} */ (
    Promise.race([load(options), late]).finally(() => clearTimeout(timer))
  );
}

/** @type {Promise<MainModule> | undefined} */
let shared;

/** The instance that mazes share. A failed attempt is forgotten. */
function sharedMujoco() {
  shared ??= loadMujoco().catch((error) => {
    shared = undefined;
    throw error;
  });
  return shared;
}

/**
 * @param {MazeName} name
 * @param {object} [options]
 * @param {() => MainModule | Promise<MainModule>} [options.load] gives MuJoCo; by default all mazes
 *   share one instance, which is loaded with the first
 */
export async function createMaze(name, { load = sharedMujoco } = {}) {
  if (!Object.hasOwn(layouts, name))
    throw new RangeError(`expected a maze of ${Object.keys(layouts).join(', ')}; found ${name}`);
  return new Maze(await load(), layouts[name]);
}

// ---- Model -------------------------------------------------------------------------------------

/**
 * D4RL's model without what acts only along z or is only seen (the ground plane costs a third of the
 * time and changes no bit). A default MjData reserves 13 MiB, of which this needs little.
 * @param {Layout} layout
 */
function mazeXml(layout) {
  const walls = layout.rows.flatMap((row, i) =>
    [...row].flatMap((_, j) =>
      isWall(layout, i, j)
        ? [`<geom type="box" size="0.5 0.5 0.2" pos="${i + 1} ${j + 1} 0"/>`]
        : [],
    ),
  );
  // Margins: since 3.5.0 MuJoCo adds those of the two geoms, before it took the larger one, 0.002.
  return `<mujoco>
  <size memory="256K"/>
  <option timestep="0.01" gravity="0 0 0" iterations="20" integrator="Euler"/>
  <default>
    <joint type="slide" damping="1" limited="false"/>
    <motor gear="100" ctrlrange="-1 1" ctrllimited="true"/>
    <geom condim="1" margin="0.001" density="1000" contype="2" conaffinity="1"/>
  </default>
  <worldbody>
    <body name="ball" pos="1.2 1.2 0">
      <joint name="x" axis="1 0 0"/>
      <joint name="y" axis="0 1 0"/>
      <geom type="sphere" size="0.1" contype="1"/>
    </body>
    ${walls.join('\n    ')}
  </worldbody>
  <actuator><motor joint="x"/><motor joint="y"/></actuator>
</mujoco>`;
}

/** The only body but the world. */
const ball = 1;

/**
 * MuJoCo's model of a maze, the caller's to delete.
 * @param {MainModule} mujoco
 * @param {Layout} layout
 */
export function compileMaze(mujoco, layout) {
  const model = mujoco.MjModel.from_xml_string(mazeXml(layout));
  // Contacts are as stiff as in the MuJoCo 2 that D4RL used: the ball's inverse weight was an average
  // over three axes, of which it can move along two. Now it is 1 / mass.
  const weights = model.body_invweight0;
  weights[2 * ball] = (2 * weights[2 * ball]) / 3;
  return model;
}

// ---- Environment -------------------------------------------------------------------------------

/**
 * A maze with its ball. Positions and velocities: layouts.js. Lives until dispose(), which gives its
 * memory back; afterwards calls that move the ball throw.
 */
export class Maze {
  /** Position and velocity: x, y, vx, vy. Changes with every step; slice() keeps one. @readonly */
  observation = new Float64Array(4);
  /** @readonly */
  layout;
  #mujoco;
  /** @type {MjModel | undefined} */
  #model;
  /** @type {MjData | undefined} */
  #data;
  // Views on MuJoCo's memory. Kept because every access to a property makes a new one.
  #position = new Float64Array();
  #velocity = new Float64Array();
  #control = new Float64Array();

  /** @param {MainModule} mujoco @param {Layout} layout use createMaze */
  constructor(mujoco, layout) {
    this.#mujoco = mujoco;
    this.layout = layout;
    this.#model = compileMaze(mujoco, layout);
    this.#data = new mujoco.MjData(this.#model);
    this.set(layout.goal, [0, 0]);
  }

  /**
   * Begins an episode: a random free cell, 0.1 to and fro, a little velocity.
   * @param {Random} random
   */
  reset(random) {
    const position = drawPoint(this.layout, random);
    return this.set(position, [0.1 * random.normal(), 0.1 * random.normal()]);
  }

  /**
   * Puts the ball somewhere. What follows depends on nothing before.
   * @param {Point} position inside a wall it is pushed out violently
   * @param {Point} [velocity]
   */
  set(position, velocity = [0, 0]) {
    checkPair('position', position);
    checkPair('velocity', velocity);
    const { data, model } = this.#alive();
    this.#mujoco.mj_resetData(model, data);
    for (let k = 0; k < 2; k++) {
      this.#position[k] = position[k];
      this.#velocity[k] = velocity[k];
    }
    return this.#observe();
  }

  /**
   * A hundredth of a second. The observation behind it is this.observation.
   * @param {Point} action forces, cut to -1 .. 1
   */
  step(action) {
    checkPair('action', action);
    const { data, model } = this.#alive();
    for (let k = 0; k < 2; k++) {
      this.#velocity[k] = clip(this.#velocity[k], maxVelocity);
      this.#control[k] = clip(action[k], 1);
    }
    this.#mujoco.mj_step(model, data);
    return this.#observe();
  }

  /** Whether the last step began at a wall: closer than 0.002. */
  get touching() {
    return this.#alive().data.ncon > 0;
  }

  dispose() {
    this.#data?.delete();
    this.#model?.delete();
    this.#data = this.#model = undefined;
  }

  [symbolDispose]() {
    this.dispose();
  }

  /** Also renews the views, which die when MuJoCo's memory grows. */
  #alive() {
    const data = this.#data;
    const model = this.#model;
    if (!data || !model) throw new Error('this maze was disposed of');
    if (!this.#position.length) {
      this.#position = data.qpos;
      this.#velocity = data.qvel;
      this.#control = data.ctrl;
    }
    return { data, model };
  }

  #observe() {
    this.observation[0] = this.#position[0];
    this.observation[1] = this.#position[1];
    this.observation[2] = this.#velocity[0];
    this.observation[3] = this.#velocity[1];
    return this.observation;
  }
}

/** @param {number} x @param {number} limit */
export const clip = (x, limit) => (x > limit ? limit : x < -limit ? -limit : x);

/** @param {string} name @param {Point} pair */
function checkPair(name, pair) {
  if (Number.isFinite(pair[0]) && Number.isFinite(pair[1])) return;
  throw new RangeError(`${name}: expected two finite numbers, found ${pair[0]}, ${pair[1]}`);
}
