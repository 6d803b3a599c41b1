{{- define "longshore.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "longshore.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains (include "longshore.name" .) .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "longshore.name" .) | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "longshore.selector" -}}
app.kubernetes.io/name: {{ include "longshore.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: registry
{{- end -}}

{{- define "longshore.labels" -}}
{{ include "longshore.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "longshore.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "longshore.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{- define "longshore.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{/* The names of the secret settings, in order, as a comma-separated text. */}}
{{- define "longshore.secretKeys" -}}
{{- if .Values.secrets.existing.name -}}
{{- .Values.secrets.existing.keys | sortAlpha | join "," -}}
{{- else -}}
{{- keys .Values.secrets.values | sortAlpha | join "," -}}
{{- end -}}
{{- end -}}

{{- define "longshore.secretName" -}}
{{- .Values.secrets.existing.name | default (include "longshore.fullname" .) -}}
{{- end -}}

{{/* "true" where the database is PostgreSQL. */}}
{{- define "longshore.postgres" -}}
{{- if has "DATABASE_URL" (splitList "," (include "longshore.secretKeys" .)) -}}true{{- end -}}
{{- end -}}

{{- define "longshore.driver" -}}
{{- dig "storage" "driver" "fs" .Values.config -}}
{{- end -}}

{{/* "true" where the pods keep nothing of their own. */}}
{{- define "longshore.fleet" -}}
{{- if and (include "longshore.postgres" .) (ne (include "longshore.driver" .) "fs") -}}true{{- end -}}
{{- end -}}

{{/* The configuration file: the chart's part under what the values say. */}}
{{- define "longshore.config" -}}
{{- $server := dict "metricsListen" (printf "%s:9090" .Values.listenHost) -}}
{{- if .Values.tls.existingSecret -}}
{{- $_ := set $server "tls" (dict "certificate" "/etc/longshore/tls/tls.crt" "key" "/etc/longshore/tls/tls.key") -}}
{{- end -}}
{{- $own := dict "server" $server -}}
{{- if .Values.htpasswd.existingSecret -}}
{{- $_ := set $own "access" (dict "htpasswd" "/etc/longshore/htpasswd/htpasswd") -}}
{{- end -}}
{{- toYaml (mergeOverwrite $own (deepCopy .Values.config)) -}}
{{- end -}}

{{/* Seconds from SIGTERM to SIGKILL: not ready, draining, and some to close the database. */}}
{{- define "longshore.grace" -}}
{{- $server := dig "server" dict .Values.config -}}
{{- add (int (dig "notReadySeconds" 5 $server)) (int (dig "drainSeconds" 30 $server)) 15 -}}
{{- end -}}

{{/* What no schema can say. */}}
{{- define "longshore.check" -}}
{{- $v := .Values -}}
{{- $several := or (gt (int $v.replicas) 1) $v.autoscaling.enabled -}}
{{- $driver := include "longshore.driver" . -}}
{{- $keys := splitList "," (include "longshore.secretKeys" .) -}}
{{- if and $v.secrets.existing.name $v.secrets.values -}}
{{- fail "secrets: either values or existing, not both" -}}
{{- end -}}
{{- if and $v.secrets.existing.name (not $v.secrets.existing.keys) -}}
{{- fail "secrets.existing: name the keys that the Secret has, as in [DATABASE_URL]" -}}
{{- end -}}
{{- if and $v.secrets.existing.keys (not $v.secrets.existing.name) -}}
{{- fail "secrets.existing: keys without the name of a Secret" -}}
{{- end -}}
{{- if dig "database" "url" "" $v.config -}}
{{- fail "config.database.url is a secret: put it into secrets, as DATABASE_URL" -}}
{{- end -}}
{{- range list "accessKeyId" "secretAccessKey" "sessionToken" -}}
{{- if dig "storage" "s3" . "" $v.config -}}
{{- fail (printf "config.storage.s3.%s is a secret: put it into secrets" .) -}}
{{- end -}}
{{- end -}}
{{- range list "accountKey" "sasToken" "connectionString" -}}
{{- if dig "storage" "azure" . "" $v.config -}}
{{- fail (printf "config.storage.azure.%s is a secret: put it into secrets" .) -}}
{{- end -}}
{{- end -}}
{{- range list "listen" "metricsListen" "metricsToken" "tls" -}}
{{- if dig "server" . "" $v.config -}}
{{- fail (printf "config.server.%s is the chart's: see listenHost, secrets and tls" .) -}}
{{- end -}}
{{- end -}}
{{- if hasKey $v.config "data" -}}
{{- fail "config.data is the chart's: the volume is always /data" -}}
{{- end -}}
{{- if and (has $driver (list "s3" "gcs")) (not (dig "storage" $driver "bucket" "" $v.config)) -}}
{{- fail (printf "config.storage.%s.bucket is missing" $driver) -}}
{{- end -}}
{{- if and (eq $driver "azure") (not (dig "storage" "azure" "container" "" $v.config)) -}}
{{- fail "config.storage.azure.container is missing" -}}
{{- end -}}
{{- if ne (has "STORAGE_S3_ACCESS_KEY_ID" $keys) (has "STORAGE_S3_SECRET_ACCESS_KEY" $keys) -}}
{{- fail "secrets: STORAGE_S3_ACCESS_KEY_ID and STORAGE_S3_SECRET_ACCESS_KEY belong together" -}}
{{- end -}}
{{- if and $several (not (include "longshore.postgres" .)) -}}
{{- fail "several pods need PostgreSQL, for SQLite has one owner: give DATABASE_URL in secrets, or replicas: 1 without autoscaling" -}}
{{- end -}}
{{- if and $several (eq $driver "fs") -}}
{{- fail "several pods need an object store: set config.storage.driver to s3, gcs or azure, or replicas: 1 without autoscaling" -}}
{{- end -}}
{{- if and $v.autoscaling.enabled (gt (int $v.autoscaling.minReplicas) (int $v.autoscaling.maxReplicas)) -}}
{{- fail "autoscaling: minReplicas is above maxReplicas" -}}
{{- end -}}
{{- if and $v.ingress.enabled (not $v.ingress.hosts) -}}
{{- fail "ingress.hosts is empty" -}}
{{- end -}}
{{- if and (not (include "longshore.fleet" .)) (not $v.persistence.enabled) (not $v.persistence.ephemeral) -}}
{{- fail "without a volume a restarted pod has lost everything; persistence.ephemeral: true says that this is meant" -}}
{{- end -}}
{{- end -}}
