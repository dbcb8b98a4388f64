#include <stdlib.h>

#include "diffusion/config.h"
#include "tests/test.h"

static df_status parse(df_config *config, const char *text) {
  return df_config_parse(config, text, strlen(text), &test_error);
}

static const char full[] =
    "{\"format\": \"diffusion-forcing/1\", \"name\": \"pens\", \"license\": \"MIT\","
    " \"denoiser\": {\"kind\": \"rnn\", \"latent_size\": 24, \"network_size\": 8, \"mlp_layers\": "
    "2,"
    "   \"gru_layers\": 2, \"hidden_size\": 40, \"self_condition\": true, \"stop_head\": true,"
    "   \"initial\": \"learned\"},"
    " \"diffusion\": {\"levels\": 100, \"objective\": \"v\", \"schedule\": \"sigmoid\", "
    "\"clip_noise\": 6},"
    " \"tokens\": {\"frame_stack\": 3, \"present\": true, \"fields\": ["
    "   {\"name\": \"dx\", \"mean\": 2, \"std\": 4}, {\"name\": \"pen\", \"binary\": true, "
    "\"threshold\": 0.25}]},"
    " \"condition\": {\"fields\": [\"tilt\", \"speed\"]},"
    " \"sampling\": {\"schedule\": \"trapezoid\", \"steps\": 20, \"uncertainty\": 2.5, \"eta\": "
    "0.5,"
    "   \"stabilization\": 3, \"grid\": \"quadratic\", \"fitted_grid\": [0, 12.5, 40, 100],"
    "   \"max_tokens\": 12},"
    " \"training\": {\"mode\": \"independent\", \"anything\": [1, 2]},"
    " \"view\": {\"kind\": \"any\", \"more\": {}}}";

TEST(every_key_arrives) {
  df_config c;
  REQUIRE(CHECK_OK(parse(&c, full)));
  CHECK_TEXT(c.name, "pens");
  CHECK_TEXT(c.network.denoiser->name, "rnn");
  CHECK_INT(c.network.token_size, 9);
  CHECK_INT(c.network.condition_size, 6);
  CHECK_INT(c.network.latent_size, 24);
  CHECK_INT(c.network.hidden_size, 40);
  CHECK(c.network.self_condition && c.network.stop_head && c.network.initial == DF_INITIAL_LEARNED);
  CHECK(c.K == 100 && c.objective == DF_PREDICT_V && c.noise == DF_NOISE_SIGMOID &&
        c.clip_noise == 6);
  CHECK(c.frame_stack == 3 && c.present && c.field_count == 2);
  CHECK_TEXT(c.fields[0].name, "dx");
  CHECK(c.fields[0].mean == 2 && c.fields[0].std == 4 && !c.fields[0].binary);
  CHECK_TEXT(c.fields[1].name, "pen");
  CHECK(c.fields[1].mean == 0 && c.fields[1].std == 1 && c.fields[1].binary &&
        c.fields[1].threshold == 0.25f);
  CHECK(c.sampling.schedule == DF_TRAPEZOID && c.sampling.steps == 20 &&
        c.sampling.uncertainty == 2.5);
  CHECK(c.sampling.eta == 0.5 && c.sampling.stabilization == 3 && c.sampling.max_tokens == 12);
  CHECK(c.sampling.grid == DF_GRID_QUADRATIC && c.sampling.fitted_grid.knots == 4 &&
        c.sampling.fitted_grid.levels[1] == 12.5f);
  CHECK_INT(df_json_at(df_json_at(c.json, "training"), "anything")->length, 2);
  CHECK_INT(df_json_at(c.json, "view")->length, 2);
  df_config_free(&c);
}

TEST(sampling_defaults_are_written_and_read_again) {
  df_config c, again;
  REQUIRE(CHECK_OK(parse(&c, full)));
  const float levels[] = {0, 33.25f, 100};
  struct df_sampling other = {.schedule = DF_AUTOREGRESSIVE,
                              .steps = 7,
                              .stabilization = 9,
                              .max_tokens = 5,
                              .uncertainty = 1.5,
                              .eta = 0.25,
                              .grid = DF_GRID_FITTED,
                              .fitted_grid = {levels, 3}};
  char *text = df_config_with_sampling(&c, &other);
  if (CHECK(text != NULL) && CHECK_OK(parse(&again, text))) {
    const struct df_sampling *s = &again.sampling;
    CHECK(s->schedule == other.schedule && s->steps == 7 && s->stabilization == 9 &&
          s->max_tokens == 5 && s->uncertainty == 1.5 && s->eta == 0.25 &&
          s->grid == DF_GRID_FITTED && s->fitted_grid.knots == 3);
    CHECK_FLOATS(s->fitted_grid.levels, levels, 3, 0);
    CHECK_TEXT(again.name, "pens"); // the rest stays
    CHECK(again.network.hidden_size == 40 && again.fields[1].threshold == 0.25f);
    CHECK_INT(df_json_at(df_json_at(again.json, "training"), "anything")->length, 2);
    // Written once more without a fitted grid, and from a config that says nothing about sampling.
    other.grid = DF_GRID_UNIFORM, other.fitted_grid = (df_warp){0};
    df_free(text);
    text = df_config_with_sampling(&again, &other);
    CHECK(text && !strstr(text, "fitted_grid"));
    df_config_free(&again);
  }
  df_free(text);
  df_config_free(&c);
}

TEST(what_may_be_missing_has_a_default) {
  df_config c;
  REQUIRE(CHECK_OK(parse(
      &c,
      "{\"format\": \"diffusion-forcing/1\", \"denoiser\": {\"kind\": \"rnn\", \"latent_size\": 8,"
      " \"network_size\": 4}, \"diffusion\": {\"levels\": 30, \"objective\": \"eps\","
      " \"schedule\": \"linear\"}, \"tokens\": {\"fields\": [{\"name\": \"x\"}]}}")));
  CHECK(c.clip_noise == 20 && c.frame_stack == 1 && !c.present && c.network.token_size == 1 &&
        c.network.condition_size == 0);
  CHECK(c.fields[0].mean == 0 && c.fields[0].std == 1 && c.fields[0].threshold == 0.5f);
  CHECK(c.sampling.schedule == DF_PYRAMID && c.sampling.steps == 30 &&
        c.sampling.uncertainty == 1 && c.sampling.eta == 0 && c.sampling.grid == DF_GRID_UNIFORM &&
        !c.sampling.fitted_grid.levels);
  struct df_sampling own = c.sampling;
  own.steps = 3;
  char *text = df_config_with_sampling(&c, &own);
  df_config again;
  if (CHECK(text != NULL) && CHECK_OK(parse(&again, text))) {
    CHECK_INT(again.sampling.steps, 3);
    df_config_free(&again);
  }
  df_free(text);
  CHECK_TEXT(c.name, "");
  df_config_free(&c);
}

// The full config with one piece of its text replaced, and what the error has to say.
TEST(a_wrong_value_is_named_with_its_path) {
  static const struct {
    const char *piece, *by, *message;
  } cases[] = {
      {"diffusion-forcing/1", "diffusion-forcing/2",
       "format: expected \"diffusion-forcing/1\", found \"diffusion-forcing/2\""},
      {"\"format\": \"diffusion-forcing/1\",", "", "format is missing"},
      {"\"license\"", "\"licence\"", "unknown key \"licence\""},
      {"\"levels\": 100,", "", "diffusion.levels is missing"},
      {"\"levels\": 100", "\"levels\": \"many\"",
       "diffusion.levels: expected an integer from 1 to 100000, found \"many\""},
      {"\"levels\": 100", "\"levels\": 1e9", "diffusion.levels"},
      {"\"objective\": \"v\"", "\"objective\": \"w\"",
       "diffusion.objective: expected \"eps\", \"x0\" or \"v\", found \"w\""},
      {"sigmoid", "sigmoidal", "diffusion.schedule"},
      {"\"clip_noise\": 6", "\"clip_noise\": -6",
       "diffusion.clip_noise: expected a number from 0.1 to 1e+06, found -6"},
      {"\"frame_stack\": 3", "\"frame_stack\": 0",
       "tokens.frame_stack: expected an integer from 1 to 4096, found 0"},
      {"\"std\": 4", "\"std\": 0",
       "tokens.fields[0]: std: expected a number from 1e-30 to 1e+30, found 0"},
      {"\"std\": 4", "\"sd\": 4", "tokens.fields[0]: unknown key \"sd\""},
      {"{\"name\": \"dx\", \"mean\": 2, \"std\": 4}", "7", "tokens.fields[0]: expected an object"},
      {"\"name\": \"pen\", ", "", "tokens.fields[1]: name is missing"},
      {"\"fields\": [\"tilt\", \"speed\"]", "\"fields\": [\"tilt\", 3]",
       "condition.fields: expected an array"},
      {"{\"fields\": [\"tilt\", \"speed\"]}", "1", "condition: expected an object"},
      {"{\"kind\": \"any\", \"more\": {}}", "[]", "view: expected an object"},
      {"\"trapezoid\"", "\"custom\"", "sampling.schedule"},
      {"\"steps\": 20", "\"steps\": 101",
       "sampling.steps: expected an integer from 1 to 100, found 101"},
      {"\"uncertainty\": 2.5", "\"uncertainty\": 25",
       "sampling.uncertainty: expected a number from 0 to 20, found 25"},
      {"\"eta\": 0.5", "\"eta\": 2", "sampling.eta: expected a number from 0 to 1, found 2"},
      {"\"quadratic\"", "\"cubic\"",
       "sampling.grid: expected \"uniform\", \"quadratic\" or \"fitted\", found \"cubic\""},
      {"\"grid\": \"quadratic\", \"fitted_grid\": [0, 12.5, 40, 100]", "\"grid\": \"fitted\"",
       "sampling.grid: \"fitted\" needs sampling.fitted_grid, which is missing"},
      {"[0, 12.5, 40, 100]", "[]", "sampling.fitted_grid: expected 2 to 1025 levels, found 0"},
      {"[0, 12.5, 40, 100]", "7", "sampling.fitted_grid: expected an array of numbers"},
      {"[0, 12.5, 40, 100]", "[0, \"a\", 100]", "sampling.fitted_grid: expected an array"},
      {"[0, 12.5, 40, 100]", "[1, 12.5, 40, 100]",
       "sampling.fitted_grid: expected levels from 0 to 100, found 1 to 100"},
      {"[0, 12.5, 40, 100]", "[0, 12.5, 40, 99]",
       "sampling.fitted_grid: expected levels from 0 to 100, found 0 to 99"},
      {"[0, 12.5, 40, 100]", "[0, 40, 40, 100]",
       "sampling.fitted_grid: expected rising levels, found 40 after 40"},
      {"\"latent_size\": 24", "\"latent_size\": 23",
       "denoiser.latent_size: expected a multiple of gru_layers = 2, found 23"},
      {"\"kind\": \"rnn\"", "\"kind\": \"rn\"", "denoiser.kind"},
      {"\"kind\": \"rnn\"", "\"kind\": \"rnn\", \"token_size\": 8",
       "denoiser.token_size: expected 9 (frame_stack times the fields of a frame), found 8"},
      {"\"kind\": \"rnn\"", "\"kind\": \"rnn\", \"condition_size\": 2",
       "denoiser.condition_size: expected 6 (frame_stack times the condition fields), found 2"},
      {"\"name\": \"pens\",", "\"name\": \"pens\"",
       "config: line 1, column 50: expected ',' or '}'"},
  };
  char text[4096];
  for (int i = 0; i < COUNT(cases); i++) {
    DURING("%s -> %s", cases[i].piece, cases[i].by);
    const char *at = strstr(full, cases[i].piece);
    if (!CHECK(at != NULL)) continue;
    snprintf(text, sizeof text, "%.*s%s%s", (int)(at - full), full, cases[i].by,
             at + strlen(cases[i].piece));
    df_config c;
    if (CHECK_STATUS(parse(&c, text), DF_BAD_CONFIG))
      CHECK_CONTAINS(test_error.message, cases[i].message);
    df_config_free(&c);
  }
}

TEST(sizes_that_are_repeated_may_agree) {
  char text[4096];
  const char *at = strstr(full, "\"kind\"");
  snprintf(text, sizeof text, "%.*s\"token_size\": 9, \"condition_size\": 6, %s", (int)(at - full),
           full, at);
  df_config c;
  CHECK_OK(parse(&c, text));
  df_config_free(&c);
}

#define OBSERVING(initial, more)                                                                   \
  "{\"format\": \"diffusion-forcing/1\", \"denoiser\": {\"kind\": \"rnn\", \"latent_size\": 8,"    \
  " \"network_size\": 4" initial "}, \"diffusion\": {\"levels\": 30, \"objective\": \"eps\","      \
  " \"schedule\": \"linear\"}, \"tokens\": {\"fields\": [{\"name\": \"x\"}]}" more "}"
#define FIELDS                                                                                     \
  ", \"observation\": {\"fields\": [{\"name\": \"x\", \"mean\": 2, \"std\": 4}, {\"name\": "       \
  "\"y\"}]}"

TEST(an_observation_is_named_and_in_data_units) {
  static const char *const texts[] = {
      OBSERVING(", \"initial\": \"encoded\"", FIELDS),
      OBSERVING(", \"initial\": \"encoded\", \"observation_size\": 2", FIELDS),
  };
  const float values[2] = {10, -3}, network[2] = {2, -3};
  float out[2];
  df_config c;
  for (int i = 0; i < 2; i++) {
    REQUIRE(CHECK_OK(parse(&c, texts[i])));
    CHECK_INT(c.network.observation_size, 2);
    if (CHECK(c.observation != NULL)) {
      CHECK_TEXT(c.observation[0].name, "x");
      CHECK(c.observation[1].mean == 0 && c.observation[1].std == 1);
    }
    df_config_observe(&c, values, out);
    CHECK_FLOATS(out, network, 2, 0);
    df_config_free(&c);
  }
  // Without names they are what the network takes.
  REQUIRE(
      CHECK_OK(parse(&c, OBSERVING(", \"initial\": \"encoded\", \"observation_size\": 2", ""))));
  CHECK(c.observation == NULL);
  df_config_observe(&c, values, out);
  CHECK_FLOATS(out, values, 2, 0);
  df_config_free(&c);
}

TEST(a_wrong_observation_or_view_is_named) {
  static const struct {
    const char *text, *message;
  } cases[] = {
      {OBSERVING("", FIELDS), "observation: it has no use, as denoiser.initial is not \"encoded\""},
      {OBSERVING(", \"initial\": \"encoded\", \"observation_size\": 3", FIELDS),
       "denoiser.observation_size: expected 2 (the fields of the observation), found 3"},
      {OBSERVING(", \"initial\": \"encoded\"", ""), "denoiser.observation_size: expected a size"},
      {OBSERVING(", \"observation_size\": 2", ""), "denoiser.observation_size: expected a size"},
      {OBSERVING(", \"initial\": \"encoded\"", ", \"observation\": {\"fields\": []}"),
       "observation.fields: expected an array of 1 to 4096 objects, found 0"},
      {OBSERVING(", \"initial\": \"encoded\"", ", \"observation\": {}"),
       "observation.fields is missing"},
      {OBSERVING(", \"initial\": \"encoded\"", ", \"observation\": [1]"),
       "observation: expected an object"},
      {OBSERVING(", \"initial\": \"encoded\"",
                 ", \"observation\": {\"fields\": [{\"name\": \"x\", \"binary\": true}]}"),
       "observation.fields[0]: unknown key \"binary\""},
      {OBSERVING(", \"initial\": \"encoded\"",
                 ", \"observation\": {\"fields\": [{\"name\": \"x\"}, {\"std\": 3}]}"),
       "observation.fields[1]: name is missing"},
      {OBSERVING(", \"initial\": \"encoded\"",
                 ", \"observation\": {\"fields\": [{\"name\": \"x\", \"std\": 0}]}"),
       "observation.fields[0]: std: expected a number"},
      {OBSERVING("", ", \"view\": \"path\""), "view: expected an object"},
  };
  for (int i = 0; i < COUNT(cases); i++) {
    df_config c;
    DURING("case %d", i);
    if (CHECK_STATUS(parse(&c, cases[i].text), DF_BAD_CONFIG))
      CHECK_CONTAINS(test_error.message, cases[i].message);
    df_config_free(&c);
  }
}

TEST(what_is_for_viewers_is_kept_as_it_is) {
  df_config c, again;
  REQUIRE(CHECK_OK(parse(&c, OBSERVING(", \"initial\": \"encoded\"", FIELDS
                                       ", \"view\": {\"kind\": \"path\", \"any\": [1, {}]}"))));
  char *text = df_config_with_sampling(&c, &c.sampling);
  if (CHECK(text != NULL) && CHECK_OK(parse(&again, text))) {
    const df_json *view = df_json_at(again.json, "view");
    CHECK_TEXT(df_json_at(view, "kind")->string, "path");
    CHECK_INT(df_json_at(view, "any")->length, 2);
    CHECK(again.observation && again.observation[0].std == 4);
    df_config_free(&again);
  }
  df_free(text);
  df_config_free(&c);
}

TEST(text_that_is_cut_anywhere_is_an_error) {
  for (size_t n = 0; n + 1 < sizeof full; n++) {
    df_config c;
    DURING("%d bytes", (int)n);
    CHECK_STATUS(df_config_parse(&c, full, n, &test_error), DF_BAD_CONFIG);
  }
}

TEST(a_config_is_read_without_memory) {
  df_config c;
  CHECK_WITHOUT_MEMORY(parse(&c, full));
  df_config_free(&c);
  CHECK_WITHOUT_MEMORY(parse(&c, OBSERVING(", \"initial\": \"encoded\"", FIELDS)));
  df_config_free(&c);
}

TEST(tokens_are_frames_side_by_side) {
  df_config c;
  REQUIRE(CHECK_OK(parse(&c, full)));
  const float frames[6] = {6, 1, -2, 0, 2, 0.5f};
  float token[9], back[6];
  df_config_encode(&c, frames, 3, token);
  const float want[9] = {1, 1, 1, -1, 0, 1, 0, 0.5f, 1}; // dx, pen, present
  CHECK_FLOATS(token, want, 9, 0);
  CHECK_INT(df_config_decode(&c, token, back), 3);
  CHECK_FLOATS(back, frames, 6, 0);

  df_config_encode(&c, frames, 1, token);
  const float padded[9] = {1, 1, 1, 0, 0, -1, 0, 0, -1};
  CHECK_FLOATS(token, padded, 9, 0);
  CHECK_INT(df_config_decode(&c, token, back), 1);
  const float shown[6] = {6, 1, 2, 0, 2, 0}; // behind the end: the mean
  CHECK_FLOATS(back, shown, 6, 0);

  // The first frame that is not present ends the token, whatever comes after it.
  token[2] = 0.2f, token[5] = -0.1f, token[8] = 0.9f;
  CHECK_INT(df_config_decode(&c, token, back), 1);
  token[2] = -1;
  CHECK_INT(df_config_decode(&c, token, back), 0);
  df_config_free(&c);
}

TEST(a_field_with_a_step_is_a_change_behind_the_first_frame_of_a_token) {
  char text[4096];
  const char *at = strstr(full, "\"std\": 4");
  snprintf(text, sizeof text, "%.*s\"std\": 4, \"step\": 0.5%s", (int)(at - full), full, at + 8);
  df_config c;
  REQUIRE(CHECK_OK(parse(&c, text)));
  const float frames[6] = {6, 1, -2, 0, 2, 0.5f};
  float token[9], back[6];
  df_config_encode(&c, frames, 3, token);
  const float want[9] = {1, 1, 1, -16, 0, 1, 8, 0.5f, 1};
  CHECK_FLOATS(token, want, 9, 0);
  CHECK_INT(df_config_decode(&c, token, back), 3);
  CHECK_FLOATS(back, frames, 6, 0);
  df_config_free(&c);
}
