# CMake toolchain for Emscripten: the emcc that tools/setup.mjs installed or found, else the one on PATH.
find_program(EMCC emcc HINTS ${CMAKE_CURRENT_LIST_DIR}/../.tools/bin REQUIRED)
find_program(EMAR emar HINTS ${CMAKE_CURRENT_LIST_DIR}/../.tools/bin REQUIRED)
find_program(EMRANLIB emranlib HINTS ${CMAKE_CURRENT_LIST_DIR}/../.tools/bin REQUIRED)
find_program(NODE NAMES node nodejs REQUIRED)

set(EMSCRIPTEN TRUE)
set(CMAKE_SYSTEM_NAME Generic)
set(CMAKE_SYSTEM_PROCESSOR wasm32)
set(CMAKE_C_COMPILER ${EMCC})
set(CMAKE_AR ${EMAR} CACHE FILEPATH "")
set(CMAKE_RANLIB ${EMRANLIB} CACHE FILEPATH "")
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)

# Programs run under Node. Version 20 has relaxed SIMD behind a flag that later versions no longer know,
# and its first tier (Liftoff) gets the dot product wrong: the library would leave it out.
set(CMAKE_CROSSCOMPILING_EMULATOR ${NODE})
execute_process(COMMAND ${NODE} --experimental-wasm-relaxed-simd --version
  RESULT_VARIABLE unknown_flag OUTPUT_QUIET ERROR_QUIET)
if(NOT unknown_flag)
  list(APPEND CMAKE_CROSSCOMPILING_EMULATOR --experimental-wasm-relaxed-simd --no-liftoff)
endif()
