#!/usr/bin/env bash
# Copy what the lock names into the package, with licences, and note what it is: see `make vendor`.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
tests=$(cd "$here/../../../tests/integration/console" && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cp "$here/package.json" "$here/package-lock.json" "$folder"
npm ci --silent --no-audit --no-fund --ignore-scripts --prefix "$folder"
: > "$here/files.txt"
: > "$here/LICENCES.txt"

# bring FOLDER PACKAGE FILE [NAME]
bring() {
  local to=$1/${4:-$(basename "$3")} from=$folder/node_modules/$2
  cp "$from/$3" "$to"
  # A source map is not brought, and a browser would ask for it.
  sed -i '/^\/\/# sourceMappingURL=/d' "$to"
  version=$(node -p "require('$from/package.json').version")
  printf '%s %s %s %s\n' "$(basename "$to")" "$2" "$version" \
    "$(sha256sum "$to" | cut -d' ' -f1)" >> "$here/files.txt"
}

bring "$here" htmx.org dist/htmx.min.js
bring "$here" htmx-ext-sse dist/sse.min.js
bring "$here" idiomorph dist/idiomorph-ext.min.js
bring "$here" uplot dist/uPlot.iife.min.js
bring "$here" uplot dist/uPlot.min.css
bring "$tests" axe-core axe.min.js

for package in htmx.org htmx-ext-sse idiomorph uplot; do
  printf '== %s ==\n' "$package" >> "$here/LICENCES.txt"
  cat "$folder/node_modules/$package"/LICENSE* >> "$here/LICENCES.txt"
  printf '\n' >> "$here/LICENCES.txt"
done
