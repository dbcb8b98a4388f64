#include "denoisers/denoiser.h"

#include <string.h>

// The list: a denoiser is added here.
static const df_denoiser *const denoisers[] = {&df_denoiser_rnn, &df_denoiser_transformer};
enum { DENOISERS = sizeof denoisers / sizeof *denoisers, MAX_SIZE = 1 << 16 };

const df_denoiser *df_denoisers(int i) { return i >= 0 && i < DENOISERS ? denoisers[i] : NULL; }

static const char *const initial_names[] = {"zero", "learned", "encoded"};

// Those that all networks have.
static const df_network_key common[] = {
    DF_NETWORK_KEY(token_size, 1, MAX_SIZE, 0),
    DF_NETWORK_KEY(condition_size, 0, MAX_SIZE, 0),
    DF_NETWORK_KEY(stop_head, 0, 1, false),
    {0},
};

static void set(df_network *net, const df_network_key *key, int value) {
  void *field = (char *)net + key->offset;
  if (key->high == 1)
    *(bool *)field = value;
  else
    *(int *)field = value;
}

int df_network_get(const df_network *net, const df_network_key *key) {
  const void *field = (const char *)net + key->offset;
  return key->high == 1 ? *(const bool *)field : *(const int *)field;
}

static df_status read_keys(df_network *net, const df_json *object, const df_network_key *key,
                           df_error *error) {
  for (; key->name; key++) {
    if (key->otherwise == DF_REQUIRED && !df_json_at(object, key->name))
      return df_fail(error, DF_BAD_CONFIG, "denoiser.%s is missing", key->name);
    bool flag = key->otherwise;
    int value = key->otherwise;
    const df_status status =
        key->high == 1 ? df_json_get_bool(object, key->name, &flag, error)
                       : df_json_get_int(object, key->name, key->low, key->high, &value, error);
    if (status) return status;
    set(net, key, key->high == 1 ? flag : value);
  }
  return DF_OK;
}

df_status df_network_read(df_network *net, const df_json *object, df_error *error) {
  const char *kinds[DENOISERS], *known[32] = {"kind", "initial"};
  df_status status;
  int kind = 0, initial = DF_INITIAL_ZERO, n = 1;
  *net = (df_network){0};
  for (int i = 0; i < DENOISERS; i++) kinds[i] = denoisers[i]->name;
  if (!object || object->kind != DF_JSON_OBJECT)
    return df_fail(error, DF_BAD_CONFIG, "denoiser: expected an object");
  if ((status = df_json_get_enum(object, "kind", kinds, DENOISERS, &kind, error))) return status;
  net->denoiser = denoisers[kind];
  if (net->denoiser->initial) n++;
  for (const df_network_key *key = common; key->name; key++) known[n++] = key->name;
  for (const df_network_key *key = net->denoiser->keys; key->name; key++) known[n++] = key->name;
  if ((status = df_json_only(object, known, n, error)) ||
      (status = read_keys(net, object, common, error)) ||
      (status = read_keys(net, object, net->denoiser->keys, error)) ||
      (status = df_json_get_enum(object, "initial", initial_names, 3, &initial, error)))
    return status;
  net->initial = (df_initial)initial;
  return DF_OK;
}

static void write_keys(const df_network *net, df_json_writer *w, const df_network_key *key) {
  for (; key->name; key++)
    if (key->high == 1)
      df_json_put_bool(w, key->name, df_network_get(net, key));
    else if (df_network_get(net, key) >= key->low) // else it follows from others
      df_json_put_number(w, key->name, df_network_get(net, key));
}

void df_network_write(const df_network *net, df_json_writer *w, const char *key) {
  df_json_object_begin(w, key);
  df_json_put_string(w, "kind", net->denoiser->name);
  write_keys(net, w, common);
  write_keys(net, w, net->denoiser->keys);
  if (net->denoiser->initial) df_json_put_string(w, "initial", initial_names[net->initial]);
  df_json_object_end(w);
}

df_status df_network_list(const df_network *net, df_params *params, df_error *error) {
  df_error first = {0};
  df_graph *g = df_graph_create();
  if (!g) return df_fail(error, DF_NO_MEMORY, "no memory for the network");
  df_nn nn = {g, params, &first};
  df_tensor *observation =
      net->observation_size ? df_input(g, "observation", 1, net->observation_size, true) : NULL;
  df_tensor *x = df_input(g, "x", 1, net->token_size, true),
            *level = df_input(g, "level", 1, 1, true);
  df_tensor *cond = net->condition_size ? df_input(g, "cond", 1, net->condition_size, true) : NULL;
  df_tensor *out, *z, *stop[2],
      *z0 = net->latent_size ? net->denoiser->initial(net, &nn, observation) : NULL;
  df_unrolled seq = {.T = 1,
                     .z0 = z0,
                     .x = &x,
                     .level = &level,
                     .cond = &cond,
                     .guess = &x,
                     .out = &out,
                     .z = &z,
                     .stop = net->stop_head ? stop : NULL};
  net->denoiser->build(net, &nn, &seq);
  df_status status = DF_OK;
  if (df_graph_error(g)->code)
    status = df_fail(error, df_graph_error(g)->code, "%s", df_graph_error(g)->message);
  else if (first.code)
    status = df_fail(error, first.code, "%s", first.message);
  df_graph_free(g);
  if (status) df_params_free(params);
  return status;
}

df_status df_network_declare(const df_network *net, df_params *params, df_error *error) {
  df_status status = df_network_list(net, params, error);
  if (!status && (status = df_params_seal(params, error))) df_params_free(params);
  return status;
}
