#!/bin/sh
# Makes the secrets that compose.yaml names, in ./secrets. Those that are there stay: PostgreSQL knows its password.
set -eu
cd "$(dirname "$0")"
# Nobody else gets into the folder; the files in it are read by the users of the containers.
mkdir -p secrets
chmod 700 secrets

word() { od -An -N"$1" -tx1 /dev/urandom | tr -d ' \n'; }
make() {
  if [ ! -e "secrets/$1" ]; then
    printf '%s' "$2" > "secrets/$1"
    chmod 444 "secrets/$1"
    echo "made secrets/$1"
  fi
}

make postgres_password "$(word 24)"
make database_url "postgres://longshore:$(cat secrets/postgres_password)@postgres:5432/longshore"
make s3_access_key "$(word 10)"
make s3_secret_key "$(word 24)"
make s3.env "ROOT_ACCESS_KEY=$(cat secrets/s3_access_key)
ROOT_SECRET_KEY=$(cat secrets/s3_secret_key)
"
