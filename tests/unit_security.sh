#!/bin/sh
# systemd's own opinion of the unit: no complaint, and an exposure of at most 2.0.
# usage: unit_security.sh posternd.service (as installed)
set -eu
systemd-analyze verify --man=no "$1"
systemd-analyze security --offline=true --threshold=20 --no-pager "$1"
