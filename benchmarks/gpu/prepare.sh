#!/usr/bin/env bash
# Makes lorasub run on a GPU machine that has PyTorch for its card but no network.
#
# Where there is a network, beside a checkout:
#
#   benchmarks/gpu/prepare.sh pack wheels            # downloads what torch's own installation lacks, about 240 MB
#   benchmarks/gpu/prepare.sh pack wheels 60         # ... in files of at most 60 MB, for narrow ways
#   PYTHON_VERSION=3.12 benchmarks/gpu/prepare.sh pack wheels     # ... for a machine with another Python than this one
#
# Take the checkout and the folder to the GPU machine, then there:
#
#   benchmarks/gpu/prepare.sh unpack wheels .gpu-packages
#   PYTHONPATH=.gpu-packages:. python -m pytest -m gpu tests/gpu
#   PYTHONPATH=.gpu-packages:. python -m benchmarks.gpu --json gpu.json
#
# torch, numpy and whatever else comes with them are the machine's own and are left alone: packages are downloaded
# without their dependencies and unpacked beside the checkout, nothing is installed.
set -euo pipefail

# those of lorasub's dependencies that a machine with PyTorch, Lightning and SciPy does not have
PACKAGES=(kornia kornia-rs jsonargparse typeshed-client docstring-parser importlib-resources trimesh warp-lang lazy-loader
          markdown-it-py mdurl lightning lightning-utilities torchmetrics tensorboard safetensors peft tqdm filelock
          natsort pydantic pydantic-core annotated-types typing-inspection pandas jinja2 typing-extensions
          pytest pytest-timeout iniconfig pluggy packaging hypothesis sortedcontainers)

case "${1:-}" in
pack)
  folder=${2:?the folder to fill}
  mkdir -p "$folder"
  where=()
  if [ -n "${PYTHON_VERSION:-}" ]; then
    where=(--only-binary=:all: --python-version "$PYTHON_VERSION" --implementation cp)
    for tag in manylinux_2_28 manylinux_2_27 manylinux_2_17 manylinux2014 manylinux1; do where+=(--platform "${tag}_x86_64"); done
  fi
  # one at a time: pip refuses several when packages pin versions of each other
  for package in "${PACKAGES[@]}"; do
    python3 -m pip download -q --no-deps --dest "$folder" "${where[@]}" "$package"
  done
  if [ -n "${3:-}" ]; then
    # large wheels in pieces; unpack joins them again
    find "$folder" -name '*.whl' -size +"$3"M | while read -r wheel; do
      split -b "${3}M" -d -a 2 "$wheel" "$wheel.part"
      rm "$wheel"
    done
  fi
  du -sh "$folder"
  ;;
unpack)
  folder=${2:?the folder that was filled} target=${3:?the folder to unpack into}
  mkdir -p "$target"
  find "$folder" -name '*.whl.part00' | while read -r first; do
    cat "${first%00}"[0-9][0-9] > "${first%.part00}"
  done
  for wheel in "$folder"/*.whl; do
    # what the machine has already stays the machine's
    name=$(basename "$wheel" | cut -d- -f1 | tr '[:upper:]' '[:lower:]')
    if python3 -c "import importlib.metadata as m, sys; m.version(sys.argv[1])" "${name//_/-}" 2>/dev/null; then
      continue
    fi
    python3 -m zipfile -e "$wheel" "$target"
  done
  PYTHONPATH="$target:." python3 -c "import lorasub, torch; print('lorasub', lorasub.__version__, 'on torch', torch.__version__, torch.cuda.get_device_name() if torch.cuda.is_available() else 'without a GPU')"
  ;;
*)
  sed -n '2,18p' "$0" >&2
  exit 2
  ;;
esac
