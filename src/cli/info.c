// forcing info: what a model file holds.
#include <stdio.h>
#include <string.h>

#include "base/threads.h"
#include "cli/options.h"
#include "io/safetensors.h"

typedef struct facts {
  const open_model *m;
  const df_safetensors *file;
  df_sampler_options sampler;
  size_t sampler_bytes; // with a batch of one
  double cells;         // network passes of one sequence of the greatest length
  int rows;
} facts;

static df_status gather(facts *f, df_error *error) {
  const df_config *c = &f->m->config;
  sampling s = sampling_defaults();
  s.batch = 1;
  df_status status = sampling_resolve(&s, c, &f->sampler, error);
  if (status) return status;
  int T = c->sampling.max_tokens;
  status = df_levels_rows(f->sampler.schedule, T, f->sampler.steps, f->sampler.uncertainty,
                          &f->rows, error);
  if (status) return status;
  f->cells = (double)T * f->sampler.steps * (f->sampler.posterior ? 2 : 1);
  df_sampler *sampler;
  status = df_sampler_create(&sampler, f->m->model, &f->sampler, error);
  if (status) return status;
  f->sampler_bytes = df_sampler_bytes(sampler);
  df_sampler_free(sampler);
  return DF_OK;
}

static const char *const initial_names[] = {"zero", "learned", "encoded from an observation"};

// A text of the config that only people read
static void print_string(const df_config *c, const char *key) {
  const df_json *text = df_json_at(c->json, key);
  if (text && text->kind == DF_JSON_STRING) printf("%-12s%s\n", key, text->string);
}

static void print_text(const facts *f) {
  const df_config *c = &f->m->config;
  const df_network *n = &c->network;
  char a[64], b[160];
  bytes_text((double)f->m->size, a, sizeof a);
  printf("%s%s%s, %s\n", c->name, c->name[0] ? ": " : "", f->m->path, a);
  print_string(c, "description");
  print_string(c, "license");
  printf("\n");

  printf("network     %s: token_size %d", n->denoiser->name, n->token_size);
  for (const df_network_key *key = n->denoiser->keys; key->name; key++) {
    const int value = df_network_get(n, key);
    if (key->high > 1 && value) printf(", %s %d", key->name, value);
    if (key->high == 1 && value) printf(", %s", key->name);
  }
  printf("%s\n", n->stop_head ? ", stop_head" : "");
  if (n->latent_size) printf("            initial latent %s\n", initial_names[n->initial]);
  printf("diffusion   %d noise levels, %s schedule, predicts %s, noise clipped at %g\n", c->K,
         df_noise_names[c->noise], df_objective_names[c->objective], (double)c->clip_noise);
  printf("tokens      %d frame%s of", c->frame_stack, c->frame_stack > 1 ? "s" : "");
  for (int i = 0; i < c->field_count; i++) printf("%s %s", i ? "," : "", c->fields[i].name);
  printf("%s\n", c->present ? "; a sequence may end inside a token" : "");
  for (int i = 0; i < c->field_count; i++) {
    printf("            %s: mean %.4g, standard deviation %.4g", c->fields[i].name,
           (double)c->fields[i].mean, (double)c->fields[i].std);
    if (c->fields[i].binary) printf(", binary, 1 above %.4g", (double)c->fields[i].threshold);
    if (c->fields[i].step > 0)
      printf(", behind the first frame of a token its change over %.4g", (double)c->fields[i].step);
    printf("\n");
  }
  if (n->condition_size) {
    const df_json *names = df_json_at(df_json_at(c->json, "condition"), "fields");
    printf("condition   for each frame");
    for (const df_json *name = names->first; name; name = name->next)
      printf("%s %s", name == names->first ? "" : ",", name->string);
    printf("\n");
  }
  for (int i = 0; c->observation && i < n->observation_size; i++)
    printf("%-12s%s: mean %.4g, standard deviation %.4g\n", i ? "" : "observation",
           c->observation[i].name, (double)c->observation[i].mean, (double)c->observation[i].std);
  if (n->observation_size && !c->observation)
    printf("observation %d numbers, in network units\n", n->observation_size);
  const df_json *view = df_json_at(df_json_at(c->json, "view"), "kind");
  if (view && view->kind == DF_JSON_STRING) printf("view        %s\n", view->string);
  sampling_text(&f->sampler, b, sizeof b);
  printf("sampling    %s, at most %d tokens\n", b, c->sampling.max_tokens);
  if (c->sampling.fitted_grid.levels)
    printf("            has a fitted grid, of %d levels\n", c->sampling.fitted_grid.knots);
  count_text(f->cells, a, sizeof a);
  printf("            %d rows, %s network passes for the longest sequence\n", f->rows, a);

  bytes_text((double)df_model_bytes(f->m->model), a, sizeof a);
  bytes_text((double)f->sampler_bytes, b, sizeof b);
  printf("weights     %s in the file\n", df_model_format(f->m->model));
  printf("memory      model %s, sampler %s for each sequence\n", a, b);
  printf("program     forcing %s, %s kernels, %d cores\n\n", df_version(), df_isa(),
         df_threads_cores());

  int widest = 6;
  for (int i = 0; i < f->file->count; i++) {
    int length = (int)strlen(f->file->views[i].name);
    if (length > widest) widest = length;
  }
  double total = 0, bytes = 0;
  printf("%-*s  %-4s  %-14s  %10s  %10s\n", widest, "tensor", "type", "shape", "numbers", "bytes");
  for (int i = 0; i < f->file->count; i++) {
    const df_view *v = &f->file->views[i];
    char shape[DF_SHAPE_TEXT], numbers[32], size[32];
    double each = (double)v->count * (double)df_dtype_size(v->dtype);
    df_shape_text(shape, v->shape, v->dims);
    count_text((double)v->count, numbers, sizeof numbers);
    count_text(each, size, sizeof size);
    printf("%-*s  %-4s  %-14s  %10s  %10s\n", widest, v->name, df_dtype_name(v->dtype), shape,
           numbers, size);
    total += (double)v->count;
    bytes += each;
  }
  count_text(total, a, sizeof a);
  count_text(bytes, b, sizeof b);
  printf("%-*s  %-4s  %-14s  %10s  %10s\n", widest, "all", "", "", a, b);
}

static df_status print_json(const facts *f, df_error *error) {
  df_json_writer w = {.indent = 2};
  df_json_object_begin(&w, NULL);
  df_json_put_string(&w, "name", f->m->config.name);
  df_json_put_string(&w, "file", f->m->path);
  df_json_put_number(&w, "bytes", (double)f->m->size);
  df_json_put_number(&w, "parameters", (double)df_model_parameters(f->m->model));
  df_json_put(&w, "config", f->m->config.json);
  sampling_write(&f->sampler, &w, "sampling");
  df_json_put_number(&w, "max_tokens", f->m->config.sampling.max_tokens);
  df_json_put_string(&w, "weights", df_model_format(f->m->model));
  df_json_put_number(&w, "rows", f->rows);
  df_json_put_number(&w, "passes", f->cells);
  df_json_put_number(&w, "model_bytes", (double)df_model_bytes(f->m->model));
  df_json_put_number(&w, "sampler_bytes", (double)f->sampler_bytes);
  df_json_put_string(&w, "version", df_version());
  df_json_put_string(&w, "isa", df_isa());
  df_json_put_number(&w, "cores", df_threads_cores());
  df_json_array_begin(&w, "tensors");
  for (int i = 0; i < f->file->count; i++) {
    const df_view *v = &f->file->views[i];
    df_json_object_begin(&w, NULL);
    df_json_put_string(&w, "name", v->name);
    df_json_put_string(&w, "type", df_dtype_name(v->dtype));
    df_json_array_begin(&w, "shape");
    for (int d = 0; d < v->dims; d++) df_json_put_number(&w, NULL, (double)v->shape[d]);
    df_json_array_end(&w);
    df_json_put_number(&w, "bytes", (double)v->count * (double)df_dtype_size(v->dtype));
    df_json_object_end(&w);
  }
  df_json_array_end(&w);
  df_json_object_end(&w);
  df_status status = DF_OK;
  if (w.failed)
    status = df_fail(error, DF_NO_MEMORY, "out of memory for the JSON text");
  else
    printf("%s\n", w.text);
  df_json_writer_free(&w);
  return status;
}

int cli_info(int argc, char **argv) {
  const char *path = NULL;
  bool json = false;
  const cli_option options[] = {
      {"--json", NULL, "One JSON object instead of text; it holds the whole config.", CLI_FLAG,
       &json},
  };
  const cli_manual manual = {
      .name = "info",
      .arguments = "MODEL",
      .about = "Says what a model file (a .safetensors file, or the folder of a model.safetensors) "
               "holds: its network, noise schedule, token layout and sampling defaults, the "
               "format of its weights, each tensor with its type, shape and size, and what it "
               "needs when it runs: memory of "
               "the model and of a sampler with one sequence of the greatest length, and the "
               "network passes that such a sequence takes.\n\n"
               "Exit codes: 0 done, 1 the file cannot be read or is no model (the reason is "
               "printed), 2 wrong command line.",
      .examples = "  forcing info models/kanji\n"
                  "  forcing info model.safetensors --json\n",
      .options = options,
      .count = sizeof options / sizeof options[0],
  };
  int over = cli_parse(&manual, argc, argv, &path, 1, 1);
  if (over >= 0) return over;

  df_error error;
  open_model m;
  df_safetensors file = {0};
  df_status status = open_model_read(&m, path, &error);
  if (status) return cli_fail("info", &error);
  facts f = {.m = &m, .file = &file};
  status = df_safetensors_open(&file, m.bytes, m.size, &error);
  if (!status) status = gather(&f, &error);
  if (!status) {
    if (json)
      status = print_json(&f, &error);
    else
      print_text(&f);
  }
  df_safetensors_close(&file);
  open_model_close(&m);
  return status ? cli_fail("info", &error) : CLI_OK;
}
