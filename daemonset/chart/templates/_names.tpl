{{/* SPDX-License-Identifier: Apache-2.0 */}}
{{/* What several templates say the same way. */}}

{{/* weft.labels: the labels of an object; takes (list $ NAME). */}}
{{- define "weft.labels" -}}
{{- $root := index . 0 -}}
{{ include "weft.selector" (index . 1) }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- end }}

{{/* weft.selector: the labels by which the pods of a workload are found; they never change. */}}
{{- define "weft.selector" -}}
app.kubernetes.io/name: {{ . }}
app.kubernetes.io/part-of: weft
{{- end }}

{{/* weft.image: takes (list $ NAME). */}}
{{- define "weft.image" -}}
{{- $root := index . 0 -}}
{{ $root.Values.image.registry }}/{{ index . 1 }}:{{ $root.Values.image.tag | default (printf "v%s" $root.Chart.AppVersion) }}
{{- end }}

{{/* weft.pull: how a pod pulls its images. */}}
{{- define "weft.pull" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
{{- range . }}
- name: {{ . }}
{{- end }}
{{- end }}
{{- end }}

{{/* weft.apiServer: where the API server is, for who cannot wait until Weft serves the Service kubernetes. */}}
{{- define "weft.apiServer" -}}
{{- with .Values.apiServer.host }}
- name: KUBERNETES_SERVICE_HOST
  value: {{ . | quote }}
- name: KUBERNETES_SERVICE_PORT
  value: {{ $.Values.apiServer.port | quote }}
{{- end }}
{{- end }}

{{/* weft.config: the configuration that agents and operators read. */}}
{{- define "weft.config" -}}
{{- $labels := dict -}}
{{- range $list := list "include" "exclude" -}}
{{- with index $.Values.identityLabels $list }}{{ $_ := set $labels $list . }}{{ end -}}
{{- end -}}
{{- $config := pick .Values "clusterName" "clusterCIDRs" "mtu" "tunnel" "shortcut" "logLevel" "masquerade" "conntrack" "flows" -}}
{{- $_ := set $config "kubernetes" (dict "enabled" true) -}}
{{- $_ := set $config "metricsAddress" .Values.agent.metricsAddress -}}
{{- $_ := set $config "operator" (dict "healthSocket" "/run/weft-operator/health.sock" "metricsAddress" .Values.operator.metricsAddress) -}}
{{- $_ := set $config "cni" (dict "install" true "binDir" .Values.cni.binDir "confDir" .Values.cni.confDir) -}}
{{- if not .Values.envoy.enabled }}{{ $_ := set $config "envoy" (dict "binary" "") }}{{ end -}}
{{- with $labels }}{{ $_ := set $config "identityLabels" . }}{{ end -}}
{{ toYaml $config }}
{{- end }}

{{/* weft.checksum: changes when pods have to be replaced for their configuration; takes (list $ KEY), whose part is others'. They read logLevel again when the ConfigMap changes. */}}
{{- define "weft.checksum" -}}
{{ omit (include "weft.config" (index . 0) | fromYaml) "logLevel" (index . 1) | toYaml | sha256sum }}
{{- end }}

{{/* weft.port, weft.probed: the port of an address, and where the node itself reaches it. */}}
{{- define "weft.port" -}}{{ regexFind "[0-9]+$" . }}{{- end }}
{{- define "weft.probed" -}}
{{- $host := regexReplaceAll ":[0-9]+$" . "" | trimAll "[]" -}}
{{ if has $host (list "" "0.0.0.0" "::") }}127.0.0.1{{ else }}{{ $host }}{{ end }}
{{- end }}

{{/* weft.scraped: annotations by which Prometheus finds what others than the node itself can reach. */}}
{{- define "weft.scraped" -}}
{{- if not (regexMatch "^(127\\.|\\[::1\\])" .) -}}
prometheus.io/scrape: "true"
prometheus.io/port: {{ include "weft.port" . | quote }}
prometheus.io/path: /metrics
{{- end }}
{{- end }}
