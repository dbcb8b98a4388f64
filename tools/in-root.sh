#!/bin/sh
# Runs a tool of the private Debian tree in .tools/root. setup.mjs links this file as .tools/bin/emcc,
# .tools/bin/clang, ...: the name it is called by is the tool it runs.
#
# The tree is only unpacked, never entered: each program starts through the tree's own dynamic loader,
# with the tree's own libraries, and so needs neither root nor mounts nor a newer libc on this machine.
name=$(basename "$0")
bin=$(cd "$(dirname "$0")" && pwd)
usr=$bin/../root/usr

case $name in
  em*) # Emscripten proper is Python and JavaScript: the machine's own interpreters run it.
    export EM_CONFIG="$usr/share/emscripten/.emscripten" EM_NODE_JS="$(command -v node)"
    export EM_LLVM_ROOT="$bin" EM_BINARYEN_ROOT="$bin/.." EM_LLVM_ADD_VERSION= EM_CLANG_ADD_VERSION=
    exec "$usr/share/emscripten/$name" "$@" ;;
  wasm-ld) tool=$(echo "$usr"/lib/llvm-*/bin/wasm-ld) ;;
  wasm-*) tool=$usr/bin/$name ;;
  *) tool=$(echo "$usr"/lib/llvm-*/bin/"$name") ;;
esac

# A program asks /proc/self/exe where it lives and would hear of the loader: clang must go by its name.
case $name in clang*) set -- -no-canonical-prefixes "$@" ;; esac

exec "$(echo "$usr"/lib*/ld-linux-*.so.*)" --library-path "$(echo "$usr"/lib/*-linux-gnu)" \
  --argv0 "$tool" "$tool" "$@"
