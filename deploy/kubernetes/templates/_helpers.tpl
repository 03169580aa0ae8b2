{{/* The name of everything: the release's, or with the chart's where that is not in it. KubeRay adds some 20 characters. */}}
{{- define "rayfold.name" -}}
{{- $name := ternary .Release.Name (printf "%s-rayfold" .Release.Name) (contains "rayfold" .Release.Name) -}}
{{- $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* Of all pods: Ray's nodes, controllers, gateways. The NetworkPolicy goes by it. Not by the name,
which KubeRay may give to its pods itself. */}}
{{- define "rayfold.selector" -}}
app.kubernetes.io/part-of: rayfold
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "rayfold.labels" -}}
{{ include "rayfold.selector" . }}
app.kubernetes.io/name: rayfold
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "rayfold.secret" -}}
{{ .Values.existingSecret | default (printf "%s-credentials" (include "rayfold.name" .)) }}
{{- end -}}

{{/* Without a name KubeRay makes the Secret, and calls it as the cluster. */}}
{{- define "rayfold.raySecret" -}}
{{ .Values.ray.auth.secretName | default (include "rayfold.name" .) }}
{{- end -}}

{{- define "rayfold.podSecurity" -}}
automountServiceAccountToken: false
{{- /* Else a service named rayfold, as a release of that name has, gives all pods RAYFOLD_PORT=tcp://… */}}
enableServiceLinks: false
{{- with .Values.image.pullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "rayfold.containerSecurity" -}}
{{- $tag := .tag | default .Values.image.tag | default .Chart.AppVersion -}}
image: {{ .Values.image.repository }}:{{ $tag }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end -}}

{{/* What Ray writes: sockets and logs, and its object store in memory. The rest is read-only. */}}
{{- define "rayfold.mounts" -}}
- {name: tmp, mountPath: /tmp}
- {name: data, mountPath: /data}
- {name: shm, mountPath: /dev/shm}
{{- if .Values.masterKeysSecret }}
- {name: master-keys, mountPath: /etc/rayfold, readOnly: true}
{{- end }}
{{- end -}}

{{/* Of a pod whose shared memory has this size. */}}
{{- define "rayfold.volumes" -}}
- name: tmp
  emptyDir: {}
- name: data
  emptyDir: {}
- name: shm
  emptyDir: {medium: Memory, sizeLimit: {{ .shm }}}
{{- with .root.Values.masterKeysSecret }}
- name: master-keys
  secret: {secretName: {{ . }}, defaultMode: 0440}
{{- end }}
{{- end -}}

{{/* Ray's ports, fixed for the NetworkPolicy; those of workers' own are a range. */}}
{{- define "rayfold.rayPorts" -}}
node-manager-port: "6380"
object-manager-port: "6381"
runtime-env-agent-port: "6382"
dashboard-agent-grpc-port: "6383"
dashboard-agent-listen-port: "52365"
metrics-export-port: "8080"
min-worker-port: "10002"
max-worker-port: "19999"
{{- end -}}

{{/* Bytes of an object store in a memory of this size. Not all of it: Ray takes a disk where it does
not fit, and so it would by its own reckoning, which goes by the pod's memory. */}}
{{- define "rayfold.objectStore" -}}
{{- $unit := ternary 1073741824 1048576 (hasSuffix "Gi" .) -}}
{{- div (mul (. | trimSuffix "Gi" | trimSuffix "Mi" | int64) $unit 9) 10 | quote -}}
{{- end -}}

{{/* Of all that is a node or a driver. Whatever waits for a head that is away does so for longer than
Ray's own 60 s, which would end every actor. A raylet would make its first driver wait for a worker
per core; for ever, if one of them dies first. */}}
{{- define "rayfold.everyNode" -}}
- {name: RAY_gcs_rpc_server_reconnect_timeout_s, value: "600"}
- {name: RAY_prestart_worker_first_driver, value: "0"}
{{- if .Values.masterKeysSecret }}
- {name: RAYFOLD_MASTER_KEYS, value: /etc/rayfold/master-keys}
{{- end }}
{{- end -}}

{{/* What each part claims: a node of the group that runs the release, and what the settings say. */}}
{{- define "rayfold.claims" -}}
{{- $group := dict .Values.ray.workers.group 0.001 -}}
{{- $claims := dict "write" $group "dedicated" $group "memory" $group "postgres" $group "process" $group -}}
{{- mergeOverwrite (deepCopy $claims) (default dict .Values.settings.claims | deepCopy) | toJson -}}
{{- end -}}

{{- define "rayfold.rpcPorts" -}}
{{ printf "%d-%d" (int .Values.ray.rpcPorts.first) (int .Values.ray.rpcPorts.last) | quote }}
{{- end -}}

{{/* One of `kind` on a machine, and in a zone, where that can be. */}}
{{- define "rayfold.spread" -}}
topologySpreadConstraints:
{{- range $key := list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - maxSkew: 1
    topologyKey: {{ $key }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "rayfold.selector" $.root | nindent 8 }}
        app.kubernetes.io/component: {{ $.kind }}
{{- end }}
{{- end -}}

{{/* Settings of the stack: of whoever starts parts, and of whoever calls them. */}}
{{- define "rayfold.env" -}}
- {name: HOME, value: /tmp}
- {name: RAYFOLD_STACK, value: {{ .Values.stack | quote }}}
- {name: RAYFOLD_DOMAIN, value: {{ .Values.domain | quote }}}
- {name: RAYFOLD_RAY_ADDRESS, value: "{{ include "rayfold.name" . }}-head-svc:6379"}
- {name: RAYFOLD_RPC_PORTS, value: {{ include "rayfold.rpcPorts" . }}}
- {name: RAYFOLD_CLAIMS, value: {{ include "rayfold.claims" . | quote }}}
{{- range $name, $value := omit .Values.settings "claims" }}
- name: RAYFOLD_{{ upper $name }}
  value: {{ ternary $value (toJson $value) (kindIs "string" $value) | quote }}
{{- end }}
{{- range $variable, $key := dict "RAYFOLD_EVENTSTORE" "eventstore" "RAYFOLD_POSTGRES" "postgres" "RAYFOLD_TOKENS" "tokens" "RAYFOLD_TOKEN" "operator-token" }}
- name: {{ $variable }}
  valueFrom: {secretKeyRef: {name: {{ include "rayfold.secret" $ }}, key: {{ $key }}}}
{{- end }}
- name: RAYFOLD_REDIS
  valueFrom: {secretKeyRef: {name: {{ include "rayfold.secret" . }}, key: redis, optional: true}}
{{- range $name, $value := .Values.otel }}
- {name: {{ $name }}, value: {{ toString $value | quote }}}
{{- end }}
- name: OTEL_EXPORTER_OTLP_HEADERS
  valueFrom: {secretKeyRef: {name: {{ include "rayfold.secret" . }}, key: otlp-headers, optional: true}}
{{ include "rayfold.everyNode" . }}
- {name: RAY_AUTH_MODE, value: token}
- name: RAY_AUTH_TOKEN
  valueFrom: {secretKeyRef: {name: {{ include "rayfold.raySecret" . }}, key: auth_token}}
{{- end -}}
