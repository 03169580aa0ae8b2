{{/* The name of all objects: the release's name, with "-rayfold" added if it does not contain "rayfold".
It is cut, because KubeRay adds about 20 characters. */}}
{{- define "rayfold.name" -}}
{{- $name := ternary .Release.Name (printf "%s-rayfold" .Release.Name) (contains "rayfold" .Release.Name) -}}
{{- $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* The labels of all pods: Ray's nodes, controllers, gateways. The NetworkPolicy selects by them, and not
by app.kubernetes.io/name, which KubeRay may set on its pods itself. */}}
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

{{/* If no Secret is named, KubeRay makes one with the name of the cluster. */}}
{{- define "rayfold.raySecret" -}}
{{ .Values.ray.auth.secretName | default (include "rayfold.name" .) }}
{{- end -}}

{{- define "rayfold.podSecurity" -}}
automountServiceAccountToken: false
{{- /* Otherwise a Service named rayfold, which a release of that name has, would set
RAYFOLD_PORT=tcp://… in all pods. */}}
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

{{/* The folders in which Ray writes sockets, logs and its object store in memory. The rest is read-only. */}}
{{- define "rayfold.mounts" -}}
- {name: tmp, mountPath: /tmp}
- {name: data, mountPath: /data}
- {name: shm, mountPath: /dev/shm}
{{- if .Values.masterKeysSecret }}
- {name: master-keys, mountPath: /etc/rayfold, readOnly: true}
{{- end }}
{{- end -}}

{{/* The volumes of a pod whose shared memory has this size. */}}
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

{{/* Ray's ports, which are fixed so that the NetworkPolicy can name them; workers have a range. */}}
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

{{/* The bytes of an object store in a shared memory of this size: 90 % of it. If the store is larger than
the shared memory, Ray keeps it on disk. Ray's default size is too large: it depends on the pod's memory. */}}
{{- define "rayfold.objectStore" -}}
{{- $unit := ternary 1073741824 1048576 (hasSuffix "Gi" .) -}}
{{- div (mul (. | trimSuffix "Gi" | trimSuffix "Mi" | int64) $unit 9) 10 | quote -}}
{{- end -}}

{{/* The variables of all nodes and drivers. They wait for the head for 600 s while it is down; Ray's default
is 60 s, after which every actor ends. By default, a raylet makes its first driver wait for a worker per
core, and for ever if a worker dies while it starts. */}}
{{- define "rayfold.everyNode" -}}
- {name: RAY_gcs_rpc_server_reconnect_timeout_s, value: "600"}
- {name: RAY_prestart_worker_first_driver, value: "0"}
{{- if .Values.masterKeysSecret }}
- {name: RAYFOLD_MASTER_KEYS, value: /etc/rayfold/master-keys}
{{- end }}
{{- end -}}

{{/* The Ray resources that each part claims: a node of the group that runs the release, and those in the
settings. */}}
{{- define "rayfold.claims" -}}
{{- $group := dict .Values.ray.workers.group 0.001 -}}
{{- $claims := dict "write" $group "dedicated" $group "memory" $group "postgres" $group "process" $group -}}
{{- mergeOverwrite (deepCopy $claims) (default dict .Values.settings.claims | deepCopy) | toJson -}}
{{- end -}}

{{- define "rayfold.rpcPorts" -}}
{{ printf "%d-%d" (int .Values.ray.rpcPorts.first) (int .Values.ray.rpcPorts.last) | quote }}
{{- end -}}

{{/* Spreads the pods of `kind` over machines and zones where possible. */}}
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

{{/* The settings of the stack, for controllers, gateways and the upgrade. */}}
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
