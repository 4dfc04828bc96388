#!/bin/sh
# Makes a random password for each user: in secrets/ for the services, hashed for the broker.
# Needs mosquitto_passwd, of Debian's package mosquitto.
set -eu
cd "$(dirname "$0")"
umask 077
mkdir -p secrets
: > secrets/broker-passwords
for user in ears brain ops; do
    password=$(head -c 24 /dev/urandom | base64 | tr '+/' '-_')
    printf '%s' "$password" > "secrets/$user"
    printf '%s:%s\n' "$user" "$password" >> secrets/broker-passwords
done
mosquitto_passwd -U secrets/broker-passwords
# The containers' users are others than this one; the folder keeps everybody else out.
chmod 644 secrets/*
chmod 700 secrets
printf 'MQTT_URL=mqtt://ops@localhost:1883\nMQTT_CLIENT_ID=ops\nMQTT_PASSWORD_FILE=%s/secrets/ops\n' "$PWD" > secrets/ops.env
