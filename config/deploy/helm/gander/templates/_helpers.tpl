{{- define "gander.name" -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "gander.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "gander.labels" -}}
{{ include "gander.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{- /* gander.yaml: what the other values decide, and over it `config`. A sidecar listens on loopback alone, without TLS. */ -}}
{{- define "gander.config" -}}
{{- $tls := dict "certificate" "/var/lib/gander/certs/server.pem" "private_key" "/var/lib/gander/certs/server.key" -}}
{{- if .Values.tlsSecretName -}}
{{- $tls = dict "certificate" "/run/secrets/gander-tls/tls.crt" "private_key" "/run/secrets/gander-tls/tls.key" "self_signed" false -}}
{{- else -}}
{{- $host := printf "%s.%s.svc" (include "gander.name" .) .Release.Namespace -}}
{{- $_ := set $tls "names" (list (include "gander.name" .) $host (printf "%s.cluster.local" $host)) -}}
{{- end -}}
{{- $admin := printf "%s-admin" (include "gander.name" .) -}}
{{- $hosts := list $admin (printf "%s.%s.svc" $admin .Release.Namespace) (printf "%s.%s.svc.cluster.local" $admin .Release.Namespace) -}}
{{- $made := dict "listen" (dict "tls" $tls) "admin" (dict "hosts" $hosts) -}}
{{- with .Values.proxy.url -}}
{{- $_ := set $made "upstream" (dict "proxy" .) -}}
{{- end -}}
{{- $all := mergeOverwrite $made (deepCopy .Values.config) -}}
{{- if eq .Values.mode "sidecar" -}}
{{- $_ := set $all "listen" (dict "address" "127.0.0.1:8443" "tls" "off") -}}
{{- end -}}
{{- toYaml $all -}}
{{- end -}}
