
/* Added to Luigi's script. A status with more tasks than are shown comes with its newest tasks and their whole
   number; Luigi's page would show either all of them or none. */

(function() {
    var numbers = {
        Failed: "FAILED", UpstreamFailed: "UPSTREAM_FAILED", Done: "DONE", Running: "RUNNING",
        BatchRunning: "BATCH_RUNNING", Pending: "PENDING", Disabled: "DISABLED", UpstreamDisabled: "UPSTREAM_DISABLED"
    };

    Object.keys(numbers).forEach(function(name) {
        var method = "get" + name + "TaskList";
        var getAll = LuigiAPI.prototype[method];
        LuigiAPI.prototype[method] = function(callback) {
            return getAll.call(this, function(answer) {
                var tasks = answer.filter(function(item) { return typeof item !== "number"; });
                var total = answer.find(function(item) { return typeof item === "number"; });
                callback(tasks);
                if (total !== undefined) {
                    $("#" + numbers[name] + "_info .info-box-number").text(
                        total.toLocaleString("en") + ", the newest " + tasks.length.toLocaleString("en") + " listed"
                    );
                }
            });
        };
    });

    $("<style>").text(
        "#taskTable th:nth-child(3) { width: 55% !important; }" +
        "#taskTable td:nth-child(3) { overflow-wrap: anywhere; }" +
        "#taskTable td:nth-child(1) { white-space: nowrap; }"
    ).appendTo("head");
})();
