#include "train/metrics.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "diffusion/cell.h"
#include "train/internal.h"

// ---- Distances ----

static int ascending(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

double df_wasserstein1(double *a, int n, double *b, int m) {
  qsort(a, (size_t)n, sizeof *a, ascending);
  qsort(b, (size_t)m, sizeof *b, ascending);
  // Between two neighbouring values of the merged samples both distribution functions are constant.
  double sum = 0, x = 0;
  for (int i = 0, j = 0; i < n || j < m;) {
    double next = j == m || (i < n && a[i] <= b[j]) ? a[i] : b[j];
    if (i + j > 0) sum += (next - x) * fabs((double)i / n - (double)j / m);
    x = next;
    while (i < n && a[i] == x) i++;
    while (j < m && b[j] == x) j++;
  }
  return sum;
}

// ---- Pen strokes ----

bool df_pen_find(df_pen *pen, const df_config *config) {
  *pen = (df_pen){-1, -1, -1, false, 0.5f};
  for (int c = 0; c < config->field_count; c++) {
    const df_field *field = &config->fields[c];
    bool position = field->name[0] != 'd';
    const char *axis = field->name + !position;
    if (!strcmp(axis, "x")) pen->x = c, pen->positions = position;
    if (!strcmp(axis, "y")) pen->y = c;
    if (!strcmp(field->name, "pen")) {
      pen->pen = c;
      if (field->binary) pen->threshold = field->threshold;
    }
  }
  return pen->x >= 0 && pen->y >= 0 && pen->pen >= 0;
}

void df_pen_move(const df_pen *pen, const float *frame, double *x, double *y) {
  *x = frame[pen->x] + (pen->positions ? 0 : *x);
  *y = frame[pen->y] + (pen->positions ? 0 : *y);
}

df_drawing df_drawing_of(const df_dataset *data, const df_pen *pen, int i) {
  df_drawing d = {0};
  double x = 0, y = 0, left = 0, right = 0, top = 0, bottom = 0;
  bool down = false;
  for (int f = data->offsets[i]; f < data->offsets[i + 1]; f++) {
    const float *v = data->values + (size_t)f * (size_t)data->fields;
    df_pen_move(pen, v, &x, &y);
    left = d.points ? fmin(left, x) : x;
    right = d.points ? fmax(right, x) : x;
    top = d.points ? fmin(top, y) : y;
    bottom = d.points ? fmax(bottom, y) : y;
    if (!down) d.strokes++;
    down = !(v[pen->pen] > pen->threshold);
    d.points++;
  }
  d.width = right - left;
  d.height = bottom - top;
  d.size = hypot(d.width, d.height);
  d.aspect = log((d.width + 1) / (d.height + 1));
  return d;
}

// ---- Lengths ----

void df_hazard_fit(const int *lengths, int n, int most, double *hazard) {
  for (int t = 0; t <= most; t++) {
    int alive = 0, ends = 0;
    for (int i = 0; i < n; i++) {
      alive += lengths[i] >= t;
      ends += lengths[i] == t;
    }
    hazard[t] = (ends + 0.5) / (alive + 1);
  }
}

double df_hazard_nll(const double *hazard, int most, int length) {
  double nll = 0;
  for (int t = 0; t < length; t++) nll -= log1p(t <= most ? -hazard[t] : -0.5);
  return nll - log(length <= most ? hazard[length] : 0.5);
}

void df_hazard_fit_seen(const int *frames, int n, int stack, int most, double *full, double *part) {
  for (int t = 0; t <= most; t++) {
    int alive[2] = {0}, ends[2] = {0};
    for (int i = 0; i < n; i++) {
      int tokens = (frames[i] + stack - 1) / stack;
      bool whole = frames[i] >= t * stack;
      alive[whole] += tokens >= t;
      ends[whole] += tokens == t;
    }
    full[t] = (ends[1] + 0.5) / (alive[1] + 1);
    part[t] = (ends[0] + 0.5) / (alive[0] + 1);
  }
}

double df_hazard_nll_seen(const double *full, const double *part, int most, int stack, int frames) {
  int tokens = (frames + stack - 1) / stack;
  const double *last = frames == tokens * stack ? full : part;
  double nll = 0;
  for (int t = 0; t < tokens; t++) nll -= log1p(t <= most ? -full[t] : -0.5);
  return nll - log(tokens <= most ? last[tokens] : 0.5);
}

// -ln sigmoid(x)
static double softplus_minus(double x) { return x > 0 ? log1p(exp(-x)) : log1p(exp(x)) - x; }

df_status df_stop_nll(const df_config *config, const df_params *params, const df_dataset *data,
                      double *nll, df_error *error) {
  if (!config->network.stop_head || config->network.condition_size ||
      config->network.initial == DF_INITIAL_ENCODED)
    return df_fail(error, DF_NOT_SUPPORTED,
                   "the likelihood of lengths needs a stop head and no conditions");
  enum { ROWS = 128 };
  int D = config->network.token_size, Z = config->network.latent_size, C = config->field_count;
  int stack = config->frame_stack;
  df_noise noise = {0};
  df_cell_runner *cells = NULL;
  float *z0 = NULL, *token = NULL, first;
  df_status status = df_noise_create(&noise, config->noise, config->K, error);
  if (!status)
    status = df_cell_create(&cells, config, &noise, params,
                            &(df_cell_options){.cells = ROWS, .threads = 1}, error);
  if (!status) {
    z0 = df_alloc(sizeof(float) * (size_t)Z);
    token = df_alloc(sizeof(float) * (size_t)(stack * C));
    if (!z0 || !token) status = df_fail(error, DF_NO_MEMORY, "out of memory");
  }
  if (!status) status = df_cell_initial(cells, 1, NULL, z0, error);
  if (!status) status = df_cell_first_stop(cells, z0, &first, error);

  // Blocks of sequences go through the network token by token, each as far as it is long.
  for (int begin = 0; !status && begin < data->count; begin += ROWS) {
    int n = data->count - begin < ROWS ? data->count - begin : ROWS, longest = 0;
    for (int b = 0; b < n; b++) {
      int tokens = df_dataset_tokens(data, begin + b, stack);
      if (tokens > longest) longest = tokens;
      if (Z) memcpy(df_cell_z(cells) + (size_t)b * (size_t)Z, z0, sizeof(float) * (size_t)Z);
      // P(ends before token 0) for an empty sequence, P(goes on) for the others
      nll[begin + b] = softplus_minus(tokens ? -first : first);
    }
    if (config->network.window && longest > config->network.window)
      status = df_fail(error, DF_NOT_SUPPORTED,
                       "the network sees %d tokens, the longest sequence has %d",
                       config->network.window, longest);
    for (int t = 0; !status && t < longest; t++) {
      for (int b = 0; b < n; b++) {
        int offset = data->offsets[begin + b] + t * stack;
        int frames = data->offsets[begin + b + 1] - offset;
        frames = frames < 0 ? 0 : frames > stack ? stack : frames;
        memset(token, 0, sizeof(float) * (size_t)(stack * C));
        if (frames)
          memcpy(token, data->values + (size_t)offset * (size_t)C,
                 sizeof(float) * (size_t)(frames * C));
        df_config_encode(config, token, frames, df_cell_x(cells) + (size_t)b * (size_t)D);
        df_cell_level(cells)[b] = 0;
        if (df_cell_places(cells)) df_cell_places(cells)[b] = (df_cell_place){b, t, t + 1};
        if (df_cell_guess(cells))
          memset(df_cell_guess(cells) + (size_t)b * (size_t)D, 0, sizeof(float) * (size_t)D);
      }
      status = df_cell_run(cells, n, error);
      for (int b = 0; !status && b < n; b++) {
        int tokens = df_dataset_tokens(data, begin + b, stack);
        double logit = df_cell_stop(cells)[b];
        if (t < tokens) nll[begin + b] += softplus_minus(t + 1 == tokens ? logit : -logit);
      }
      if (!status && Z)
        memcpy(df_cell_z(cells), df_cell_z_next(cells), sizeof(float) * (size_t)n * (size_t)Z);
    }
  }
  df_free(z0);
  df_free(token);
  df_cell_free(cells);
  df_noise_free(&noise);
  return status;
}
