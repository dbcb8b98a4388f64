#include "denoisers/denoiser.h"

#include <string.h>

// The list: a denoiser is added here.
static const df_denoiser *const denoisers[] = {&df_denoiser_rnn};
enum { DENOISERS = sizeof denoisers / sizeof *denoisers, MAX_SIZE = 1 << 16 };

const df_denoiser *df_denoisers(int i) { return i >= 0 && i < DENOISERS ? denoisers[i] : NULL; }

static const char *const initial_names[] = {"zero", "learned", "encoded"};

df_status df_network_read(df_network *net, const df_json *object, df_error *error) {
  const char *names[DENOISERS];
  for (int i = 0; i < DENOISERS; i++) names[i] = denoisers[i]->name;
  static const char *const keys[] = {"kind",         "token_size",     "latent_size",
                                     "network_size", "hidden_size",    "mlp_layers",
                                     "gru_layers",   "condition_size", "self_condition",
                                     "stop_head",    "initial",        "observation_size"};
  df_status status;
  int kind = 0, initial = DF_INITIAL_ZERO;
  *net = (df_network){.latent_size = 0, .mlp_layers = 1, .gru_layers = 1};
  if (!object || object->kind != DF_JSON_OBJECT)
    return df_fail(error, DF_BAD_CONFIG, "denoiser: expected an object");
  if ((status = df_json_only(object, keys, sizeof keys / sizeof *keys, error))) return status;
  if (!df_json_at(object, "latent_size"))
    return df_fail(error, DF_BAD_CONFIG, "denoiser.latent_size is missing");
  if (!df_json_at(object, "network_size"))
    return df_fail(error, DF_BAD_CONFIG, "denoiser.network_size is missing");
  if ((status = df_json_get_enum(object, "kind", names, DENOISERS, &kind, error)) ||
      (status = df_json_get_int(object, "token_size", 1, MAX_SIZE, &net->token_size, error)) ||
      (status = df_json_get_int(object, "latent_size", 1, MAX_SIZE, &net->latent_size, error)) ||
      (status =
           df_json_get_int(object, "network_size", 4, MAX_SIZE / 32, &net->network_size, error)))
    return status;
  net->hidden_size = 32 * net->network_size;
  if ((status = df_json_get_int(object, "hidden_size", 1, MAX_SIZE, &net->hidden_size, error)) ||
      (status = df_json_get_int(object, "mlp_layers", 0, 64, &net->mlp_layers, error)) ||
      (status = df_json_get_int(object, "gru_layers", 0, 4, &net->gru_layers, error)) ||
      (status =
           df_json_get_int(object, "condition_size", 0, MAX_SIZE, &net->condition_size, error)) ||
      (status = df_json_get_bool(object, "self_condition", &net->self_condition, error)) ||
      (status = df_json_get_bool(object, "stop_head", &net->stop_head, error)) ||
      (status = df_json_get_enum(object, "initial", initial_names, 3, &initial, error)) ||
      (status =
           df_json_get_int(object, "observation_size", 0, MAX_SIZE, &net->observation_size, error)))
    return status;
  net->denoiser = denoisers[kind];
  net->initial = (df_initial)initial;
  return DF_OK;
}

void df_network_write(const df_network *net, df_json_writer *w, const char *key) {
  df_json_object_begin(w, key);
  df_json_put_string(w, "kind", net->denoiser->name);
  df_json_put_number(w, "token_size", net->token_size);
  df_json_put_number(w, "latent_size", net->latent_size);
  df_json_put_number(w, "network_size", net->network_size);
  df_json_put_number(w, "hidden_size", net->hidden_size);
  df_json_put_number(w, "mlp_layers", net->mlp_layers);
  df_json_put_number(w, "gru_layers", net->gru_layers);
  df_json_put_number(w, "condition_size", net->condition_size);
  df_json_put_bool(w, "self_condition", net->self_condition);
  df_json_put_bool(w, "stop_head", net->stop_head);
  df_json_put_string(w, "initial", initial_names[net->initial]);
  if (net->observation_size) df_json_put_number(w, "observation_size", net->observation_size);
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
  df_tensor *out, *z, *stop[2], *z0 = net->denoiser->initial(net, &nn, observation);
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
