{{- define "rbd-csi.labels" -}}
app.kubernetes.io/name: rbd-csi
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{- define "rbd-csi.selector" -}}
app.kubernetes.io/name: rbd-csi
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "rbd-csi.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "rbd-csi.sidecar" -}}
{{ .root.Values.sidecars.registry }}/{{ .of.image }}:{{ .of.tag }}
{{- end }}

{{- define "rbd-csi.clustersSecret" -}}
{{ .Values.existingClustersSecret | default (printf "%s-clusters" .Release.Name) }}
{{- end }}

{{- /* The ConfigMap of KMS entries; empty without any. */ -}}
{{- define "rbd-csi.kmsConfigMap" -}}
{{- if .Values.kms.existingConfigMap -}}
{{ .Values.kms.existingConfigMap }}
{{- else if .Values.kms.entries -}}
{{ .Release.Name }}-kms
{{- end }}
{{- end }}

{{- define "rbd-csi.sidecarTimeout" -}}
--timeout={{ add .Values.timeoutSeconds .Values.sidecars.timeoutMarginSeconds }}s
{{- end }}

{{- /* What every instance of the driver is told alike. */ -}}
{{- define "rbd-csi.commonArgs" -}}
- --endpoint=unix:///csi/csi.sock
- --node-id=$(NODE_NAME)
- --driver-name={{ .Values.driverName }}
- --clusters=/etc/rbd-csi/config.json
{{- if include "rbd-csi.kmsConfigMap" . }}
- --kms-config=/etc/rbd-csi-kms/config.json
{{- end }}
- --instance={{ .Values.instance }}
- --timeout={{ .Values.timeoutSeconds }}
- --log-level={{ .Values.logLevel }}
- --log-format={{ .Values.logFormat }}
{{- with .Values.otlpEndpoint }}
- --otlp-endpoint={{ . }}
{{- end }}
{{- if .Values.topology.enabled }}
- --topology
{{- end }}
{{- end }}

{{- define "rbd-csi.unprivileged" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- /* A cluster that is away is no reason to restart the driver: /healthz tells that the process answers. */ -}}
{{- define "rbd-csi.livenessProbe" -}}
httpGet: {path: /healthz, port: metrics}
initialDelaySeconds: 10
periodSeconds: 20
timeoutSeconds: 5
failureThreshold: 3
{{- end }}

{{- /* An upgrade waits for the new pod to reach a cluster before it ends the next old one. */ -}}
{{- define "rbd-csi.readinessProbe" -}}
httpGet: {path: /readyz, port: metrics}
periodSeconds: 5
timeoutSeconds: 5
{{- end }}

{{- define "rbd-csi.readsNodeLabels" -}}
{{- $reads := or .Values.topology.enabled .Values.existingClustersSecret -}}
{{- range .Values.clusters -}}
{{- if and .readAffinity .readAffinity.enabled }}{{ $reads = true }}{{ end -}}
{{- end -}}
{{- if $reads }}true{{ end -}}
{{- end -}}
